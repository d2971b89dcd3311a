"""Nothing is deleted in silence: commands say what they deleted and how to undo it, and ask before they delete all."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.cli.fake_service import FakeService, Program, connect_to

KINDS = ("recipes", "images", "public-keys")


@pytest.fixture
def fake() -> FakeService:
    """Two records of each kind, and two that are deleted."""
    fake = FakeService()
    for kind in KINDS:
        for path in (kind, kind, f"deleted/{kind}", f"deleted/{kind}"):
            fake.add(path, "site")
    return fake


@pytest.fixture
def program(fake: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program, connected to the service."""
    return connect_to(fake, monkeypatch, tmp_path)


class Terminal(io.StringIO):
    """Standard input of a user who types."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.mark.parametrize("answer", ["n", "", "y"])
@pytest.mark.parametrize("kind", [*KINDS, *(f"deleted {kind}" for kind in KINDS)])
def test_delete_all_asks(
    program: Program, fake: FakeService, monkeypatch: pytest.MonkeyPatch, kind: str, answer: str
) -> None:
    """Only `y` deletes; the question says how many records there are, and standard output has no text."""
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    done = program.run(*kind.split(), "deleteall")
    assert ("Purge 2 deleted" if "deleted" in kind else "Delete 2") in done.stderr
    left = fake.ids(kind.replace(" ", "/"))
    if answer == "y":
        assert (done.code, left) == (0, [])
        assert ("--operation undelete" in done.stderr) == ("deleted" not in kind)
    else:
        assert (done.code, len(left)) == (1, 2)
        assert done.stderr.endswith("nothing was deleted\n")
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [(), ("--yes",)])
def test_script_is_not_asked(
    program: Program, fake: FakeService, monkeypatch: pytest.MonkeyPatch, kind: str, options: tuple[str, ...]
) -> None:
    """Scripts of `cray` delete all records without a terminal; with `--yes`, so does a user."""
    monkeypatch.setattr(sys, "stdin", Terminal() if options else io.StringIO())
    done = program.run(kind, "deleteall", *options)
    assert (done.code, done.stdout, fake.ids(kind)) == (0, "", [])
    assert done.stderr.startswith("deleted 2 ")


def test_nothing_to_delete(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is no question."""
    program.run("recipes", "deleteall")
    monkeypatch.setattr(sys, "stdin", Terminal())
    done = program.run("recipes", "deleteall")
    assert (done.code, done.stderr) == (0, "deleted 0 recipes\n")


@pytest.mark.parametrize("command", [("delete", "site"), ("deleteall",)])
def test_pinned_image_is_refused(program: Program, fake: FakeService, command: tuple[str, ...]) -> None:
    """Unless the user forces it; a dry run shows it."""
    pinned = fake.add("images", "site", pinned=True)
    before = fake.ids("images")
    refused = program.refused("images", *command)
    assert f"site ({pinned})" in refused
    assert "--force" in refused
    assert pinned in [record["id"] for record in program.json("images", *command, "--dry-run")]
    assert fake.ids("images") == before
    assert program.run("images", *command, "--force").code == 0
    assert pinned not in fake.ids("images")


def test_other_images_are_deleted(program: Program, fake: FakeService) -> None:
    """A pinned image does not keep others from being deleted one by one."""
    fake.add("images", "pinned", pinned=True)
    assert program.run("images", "delete", "site").code == 0
    assert len(fake.ids("images")) == 2


@pytest.mark.parametrize(
    ("status", "runs"), [("creating", True), ("error", True), ("error", False), ("success", False)]
)
def test_job(program: Program, fake: FakeService, status: str, runs: bool) -> None:
    """A job that runs is cancelled, also if it only cleans up. One that has ended is deleted."""
    identity = fake.add("jobs", "x", status=status)
    fake.running |= {identity} if runs else set()
    done = program.run("jobs", "delete", identity)
    if not runs:
        assert done.stderr == f"deleted the job {identity}\n"
    else:
        assert done.stderr.startswith(f"cancelled the job {identity}. To delete it")
    assert done.stdout == ""


def test_all_jobs(program: Program, fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is asked for jobs, too."""
    fake.add("jobs", "x", status="success")
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    done = program.run("jobs", "deleteall", "--status", "success")
    assert (done.code, len(fake.ids("jobs"))) == (1, 1)
    assert "Delete or cancel 1 job?" in done.stderr
    assert program.run("jobs", "deleteall", "-y").stderr == "deleted or cancelled 1 job\n"
