"""The program itself: start, output and errors."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.cli.output import clean
from ims.cli.reference import documentation
from tests.cli.conftest import IMS, Cli
from tests.cli.fake_service import FakeService, Program, connect_to
from tests.cli.web_server import serve

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HEAVY = ("airflow", "sqlalchemy", "fastapi", "boto3", "ims.settings", "yaml", "httpx", "lxml")


@pytest.fixture
def fake() -> FakeService:
    """A service without records."""
    return FakeService()


@pytest.fixture
def cli(offline: Cli, fake: FakeService) -> Iterator[Cli]:
    """The program as a process, connected to the service."""
    with serve(fake.answer) as server:
        yield offline.with_variables(IMS_URL=server.url, IMS_TOKEN="a-token")


@pytest.fixture
def program(fake: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program in this process, connected to the service."""
    return connect_to(fake, monkeypatch, tmp_path)


def test_page_is_up_to_date() -> None:
    """docs/cli.md is what `make docs` writes."""
    assert PAGE.read_text() == documentation()


def test_page_has_no_command_twice() -> None:
    """Each command has one section."""
    titles = [line for line in documentation().splitlines() if line.startswith("### ")]
    assert len(titles) == len(set(titles)) > 40
    assert "### ims recipes push" in titles


def test_starts_without_heavy_imports() -> None:
    """Users wait for each start, so heavy modules are imported only when a command needs them."""
    program = f"import sys, ims.cli\nassert not set(sys.modules) & {set(HEAVY)!r}, set(sys.modules) & {set(HEAVY)!r}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_command_imports_only_the_client(cli: Cli) -> None:
    """A command that only calls the API imports neither Airflow nor boto3."""
    program = (
        "import sys\nfrom ims.cli import main\nsys.argv = ['ims', 'images', 'list']\nassert main() == 0\n"
        f"heavy = set(sys.modules) & {set(HEAVY) - {'httpx'}!r}\nassert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=dict(cli.environment), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [(), ("recipes",), ("deleted",), ("deleted", "images"), ("jobs", "--help")])
def test_help(program: Program, arguments: tuple[str, ...]) -> None:
    """A group without a command shows its help and succeeds, as in `cray`."""
    done = program.run(*arguments)
    assert (done.code, done.stderr) == (0, "")
    assert "Usage: ims" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("recipe",), "No such command 'recipe'"),
        (("recipes", "lst"), "No such command 'lst'"),
        (("recipes", "create", "--name", "x", "--recipe-type", "kiwi-ng"), "'--linux-distribution'"),
        (("images", "create"), "'--name'"),
        (("images", "create", "--name", "x", "--arch", "junk"), "'--arch'"),
        (("public-keys", "create", "--name", "x"), "'--public-key'"),
        (("public-keys", "create", "--name", "x", "--public-key", "/not/there"), "No such file"),
        (
            ("jobs", "create", "--job-type", "customize", "--artifact-id", "x", "--public-key-id", "x"),
            "root-archive-name",
        ),
        (("jobs", "create", "--enable-debug", "maybe"), "'--enable-debug'"),
        (("images", "list", "--format", "toml"), "'--format'"),
        (("images", "describe"), "'ID'"),
    ],
)
def test_wrong_use(program: Program, arguments: tuple[str, ...], text: str) -> None:
    """The error names the wrong option and the command that shows the help."""
    error = program.refused(*arguments)
    assert text in error
    assert "--help" in error


def test_completion(offline: Cli) -> None:
    """The completion of the shell knows the commands."""
    done = offline.run(_IMS_COMPLETE="complete_bash", COMP_WORDS="ims recipes pu", COMP_CWORD="2")
    assert done.stdout.split() == ["push"]


def test_format_stands_anywhere(program: Program, fake: FakeService) -> None:
    """`--format` may come before, between or after the other words. The last one wins."""
    fake.answers["/apis/ims/version"] = {"version": "3.0"}
    for place in range(3):
        words = ["public-keys", "list"]
        words[place:place] = ("--format", "json")
        assert json.loads(program.run(*words).stdout) == []
    assert program.run("--format", "json", "version", "--format", "yaml").stdout == "version: '3.0'\n"


def test_tables_in_a_pipe_are_whole(program: Program, fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets tables without colors, lines or wrapped cells."""
    name = "x" * 255
    monkeypatch.setenv("COLUMNS", "40")
    identity = fake.add("images", name)
    head, *lines = program.run("images", "list", "--name", name).stdout.splitlines()
    assert head.split() == ["ID", "NAME", "CREATED", "RECIPE", "SIZE", "PACKAGES", "PINNED"]
    assert [line.split()[:2] for line in lines] == [[identity, name]]
    assert lines[0].isprintable()


def test_tables_on_a_terminal_keep_ids_whole(cli: Cli, fake: FakeService) -> None:
    """A narrow terminal wraps names, but not ids, because users copy them."""
    identity = fake.add("images", "y" * 100)
    leader, follower = pty.openpty()
    done = subprocess.Popen([IMS, "images", "list"], env={**cli.environment, "COLUMNS": "80"}, stdout=follower)
    os.close(follower)
    text = ""
    while True:
        try:
            text += os.read(leader, 65536).decode()
        except OSError:
            break
    assert done.wait() == 0
    assert identity in text
    assert max(len(line) for line in text.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()) <= 80


def test_hostile_names_do_not_control_the_terminal(program: Program, fake: FakeService) -> None:
    """Control characters and markup in a name are shown as text."""
    identity = fake.add("images", "\x1b]0;owned\x07[red]x")
    for text in (program.run("images", "list").stdout, program.run("images", "describe", identity).stdout):
        assert "\x1b" not in text
        assert "\\x1b]0;owned\\x07[red]x" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\tb", "a\tb"),
        ("a\rb\nc", "a\\rb\\nc"),
        ("\x1b]52;c;x\x07", "\\x1b]52;c;x\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eabc", "\\u202eabc"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    """Colors are removed, and other control characters are escaped."""
    assert clean(text) == shown


def test_pipe_that_closes(cli: Cli, fake: FakeService) -> None:
    """`ims … | head -1` ends without an error."""
    for _ in range(3):
        fake.add("images", "z" * 250)
    command = f"{IMS} images list --format json | head -c 1"
    done = subprocess.run(
        ["bash", "-c", command], env=dict(cli.environment), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
