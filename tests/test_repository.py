"""Checks of the files in the repository: no traces of a developer's machine, no built files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FORBIDDEN = {
    "a path of the machine it was written on": r"(?<![\w.}-])/work/|/tmp/w/",
    "a word of the tools it was written with": (
        r"(?i)\b(anthropic|claude|chatgpt|openai|copilot|co-authored-by|issues (show|list|close))\b"
    ),
    "the host of a package registry": (
        r"(?i)\b((deb|security|ftp|snapshot)\.debian\.org|pypi\.(org|python\.org)|(files\.)?pythonhosted\.org"
        r"|(archive|security|ports)\.ubuntu\.com|(download|repo)\.opensuse\.org|(scc|updates)\.suse\.com"
        r"|(dl|mirrors|download)\.fedoraproject\.org|mirrors?\.(centos|rockylinux|almalinux)\.org"
        r"|registry\.npmjs\.org|registry\.yarnpkg\.com|crates\.io|proxy\.golang\.org|rubygems\.org"
        r"|(docker|ghcr|quay|gcr)\.io|conda\.anaconda\.org)\b"
    ),
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/]",
    "a conflict that was not resolved": r"(?m)^(<{7}|>{7}) ",
}


def git(*arguments: str) -> str:
    """Returns the output of git for this repository, whoever owns the folder."""
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def files() -> list[Path]:
    """Returns the files that are tracked, and new ones that are not ignored."""
    names = git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("pattern", FORBIDDEN.values(), ids=FORBIDDEN)
def test_no_file_has(pattern: str) -> None:
    """No file except this one, which contains the patterns, matches a forbidden pattern."""
    compiled = re.compile(pattern)
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in files()
        if path != Path(__file__) and (match := compiled.search(path.read_bytes().decode(errors="replace")))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a path of the machine it was written on", "cd /work/main"),
        ("a path of the machine it was written on", "'/tmp/w/x'"),
        ("a word of the tools it was written with", "see `issues show 2`"),
        ("a word of the tools it was written with", "Co-Authored-By: somebody"),
        ("the host of a package registry", "deb http://deb.debian.org/debian bookworm main"),
        ("the host of a package registry", "--index-url https://pypi.org/simple"),
        ("a private key", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl"),
        ("a conflict that was not resolved", "a\n<<<<<<< HEAD\n"),
    ],
)
def test_pattern_finds(name: str, text: str) -> None:
    """Each pattern matches an example."""
    assert re.search(FORBIDDEN[name], text)


@pytest.mark.parametrize("text", ["{home}/workspaces/x", "its/work/dir", "/var/lib/ims/work/x", "http://nexus.example"])
def test_patterns_ignore(text: str) -> None:
    """Similar text is allowed."""
    assert not any(re.search(pattern, text) for pattern in FORBIDDEN.values())


@pytest.mark.parametrize("recipe", sorted((ROOT / "include" / "recipes").iterdir()), ids=lambda path: path.name)
def test_recipe_has_readme(recipe: Path) -> None:
    """The README starts with the name of the recipe and names every variable of its templates."""
    text = (recipe / "README.md").read_text()
    assert text.startswith(f"# {recipe.name}\n")
    variables = set(re.findall(r"\{\{ *(\w+) *\}\}", (recipe / "config.xml").read_text()))
    assert {name for name in variables if f"`{name}`" not in text} == set()


def test_all_flows_that_run_as_pods_are_listed() -> None:
    """The make target contains every file with a test that also runs as pods."""
    command = subprocess.run(["make", "-n", "test-kubernetes"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {path for word in command.stdout.split() if word.startswith("tests/") for path in ROOT.glob(word)}
    marked = {path for path in ROOT.glob("tests/flows/test_*.py") if "mark.kubernetes" in path.read_text()}
    assert marked <= listed


def test_no_built_file_is_tracked() -> None:
    """No generated file is tracked, except the lock files and the generated pages."""
    built = re.compile(
        r"(^|/)(__pycache__|\.venv|\.hypothesis|[\w-]+\.egg-info|\w+_cache)/|\.(pyc|rpm|deb|squashfs|db)$"
    )
    assert [name for name in git("ls-files").splitlines() if built.search(name)] == []
