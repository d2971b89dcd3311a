"""Checks of the documentation that run no command: style, links, and the names of files and commands."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = {DOCS / name for name in ("api.md", "cli.md", "settings.md")}
PAGES = sorted({*ROOT.glob("*.md"), *DOCS.rglob("*.md")})
WIDTH = 100
SOURCES = {"", ".html", ".py", ".sh", ".yaml"}

# Phrases of earlier versions that a native speaker has to decode, and what to write instead.
DIALECT = {
    r"[Ss]eed step": "what the step does",
    r"\bbesides\b": "in addition, also",
    r"\bis told\b|\bare told\b": "receives, is notified",
    r"\b[Nn]obody (needs|told|knows|names|reaches)\b": "the passive or a real subject",
    r"\b(goes|go|stays?) for ever\b": "is purged, is kept forever",
    r"\bWho may (what|do)\b": "Permissions",
    r"\bcomes? out as (it is|they are)\b": "would be identical",
    r"\bNone there is\b": "if there is none",
    r"\bwhat came of\b|\bbecame of\b": "the result of",
    r"\bas it has it\b|\bhas it so\b": "as it defines",
    r"\bis taken for\b|\btaken for\b": "counts as",
    r"\b(unless|if) nothing else is said\b": "by default",
    r"\bsays? otherwise\b": "overrides, sets",
    r"\bfor ever\b": "forever",
    r"\b(wherever|where) ids are\b": "instead of ids",
    r"\bbut for\b": "except",
}
BRITISH = r"\b\w*(behaviour|colour|licence|catalogue|serialis|organis|initialis|recognis|optimis|minimis)\w*\b"


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a page outside of code blocks."""
    code = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            code = not code
        elif not code:
            yield number, line


def commands(page: Path) -> str:
    """All shell commands of a page."""
    return "\n".join(re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)).replace("\\\n", "")


def name(page: Path) -> str:
    """The path of a page in the project."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED], ids=name)
def test_lines_are_wrapped(page: Path) -> None:
    """Prose has at most 100 columns; tables, and lines that are a single link, may be longer."""
    long = [number for number, line in prose(page) if len(line) > WIDTH and not re.match(r"\||!?\[[^\]]*\]\S*$", line)]
    assert long == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED], ids=name)
def test_code_spans_are_whole(page: Path) -> None:
    """A name or command in backticks stays on one line, so that a reader can search for it."""
    assert [number for number, line in prose(page) if line.count("`") % 2] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_english_of_pages_is_plain(page: Path) -> None:
    """No page uses the private vocabulary of earlier versions, or British spelling."""
    found = dialect(prose(page), {**DIALECT, BRITISH: "American spelling"})
    assert page.name == "CONTRIBUTING.md" or found == []


@pytest.mark.parametrize("folder", ["plugins", "dags", "tests", "include", "containers", "deploy", "scripts"])
def test_english_of_code_is_plain(folder: str) -> None:
    """Docstrings, comments and messages follow the same rules."""
    files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix in SOURCES]
    lines = {path: enumerate(path.read_text().splitlines(), 1) for path in files if path != Path(__file__)}
    found = {name(path): errors for path, numbered in lines.items() if (errors := dialect(numbered, DIALECT))}
    assert found == {}


def dialect(lines: Iterable[tuple[int, str]], rules: dict[str, str]) -> list[str]:
    """The phrases that the rules forbid, each with the number of its line and what to write instead."""
    return [
        f"{number}: {match[0]!r}; write: {better}"
        for number, line in lines
        for pattern, better in rules.items()
        if (match := re.search(pattern, line))
    ]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file, and every anchor names a heading of that file."""
    for target in re.findall(r"\]\(([^)\s]+)\)", "\n".join(line for _, line in prose(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in {slug(line) for _, line in prose(file) if line.startswith("#")}, target


def slug(heading: str) -> str:
    """The anchor that Markdown renderers give a heading."""
    return re.sub(r"[^\w -]", "", heading.lstrip("#").strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [DOCS / "architecture.md", ROOT / "CONTRIBUTING.md"], ids=name)
def test_paths_exist(page: Path) -> None:
    """Every file and folder that these pages name exists, in the project or in plugins/ims."""
    spans = re.findall(r"`([^`\s]+)`", page.read_text())
    paths = [span for span in spans if re.fullmatch(r"[\w./-]*(/|\.(py|md|sh|xml|html))", span) and span[0] != "/"]
    assert len(paths) > 20
    # An example of a step, and the configuration of a recipe.
    examples = {"plugins/ims/steps/measure_image.py"}
    missing = {
        path for path in paths if not any((folder / path).exists() for folder in (ROOT, ROOT / "plugins" / "ims"))
    }
    assert missing == examples & set(paths)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name)
def test_commands_are_valid(page: Path) -> None:
    """Commands are shell; files that they name exist; `ims` and `make` know their words and options."""
    text = commands(page)
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for path in re.findall(r"(?<![\w/.])(?:deploy|include|scripts)/[\w./-]+", text):
        assert (ROOT / path).exists() or path.startswith("deploy/airflow-"), path
    client = (DOCS / "cli.md").read_text()
    for words, options in re.findall(r"(?m)^(?:\w+=\S+ )?(ims [a-z-]+ [a-z]+)(.*)$", text):
        section = client.split(f"### {words}\n")[1].split("\n##")[0]
        for option in re.findall(r"(?<= )--[a-z-]+", re.sub(r'"[^"]*"', "", options)):
            assert option in (section + "--format"), f"{words} {option}"
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    named = re.findall(r"(?m)^make ([a-z -]+?) *(?:#.*)?$", text)
    assert {target for line in named for target in line.split()} <= targets


def test_every_page_is_in_the_index() -> None:
    """docs/README.md links every page, and docs/adr/README.md every decision record."""
    for index in (DOCS / "README.md", DOCS / "adr" / "README.md"):
        pages = {page.name for page in index.parent.glob("*.md")} - {"README.md"}
        assert pages - set(re.findall(r"\]\(([\w.-]+)\)", index.read_text())) == set()


@pytest.mark.parametrize("text", ["Nobody needs this.", "It goes for ever.", "Seed step 5", "the behaviour"])
def test_dialect_is_found(text: str) -> None:
    """The patterns find what they are meant to find."""
    assert any(re.search(pattern, text) for pattern in (*DIALECT, BRITISH))
