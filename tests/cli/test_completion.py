"""Completion by the shell knows the names of records."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import httpx
import pytest

from ims.cli.app import app
from tests.cli.fake_service import FakeService, connect_to

IMAGE = "aaaa1111-0000-4000-8000-000000000001"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeService:
    """A service with records of every kind."""
    fake = FakeService()
    fake.add("images", "site", id=IMAGE)
    for kind, name in (
        *(("images", "site"), ("images", "two words"), ("images", "\x1b[31m"), ("recipes", "sles")),
        *(("public-keys", "me"), ("deleted/images", "old")),
    ):
        fake.add(kind, name)
    fake.answers["jobs"] = [{"id": "bbbb", "image_root_archive_name": "made"}, {"id": "cccc", "name": None}]
    connect_to(fake, monkeypatch, tmp_path)
    return fake


def proposed(monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    """Returns what bash proposes at the end of a command line."""
    words = line.split(" ")
    monkeypatch.setenv("_IMS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    written = io.StringIO()
    with redirect_stdout(written), pytest.raises(SystemExit):
        app(prog_name="ims", args=[], standalone_mode=True)
    return written.getvalue().split("\n")[:-1]


# A command line and what may follow.
LINES = {
    "ims images describe ": ["site", "two words"],
    "ims images delete si": ["site"],
    "ims images describe aaaa": [IMAGE],
    "ims images diff site tw": ["two words"],
    "ims recipes plan ": ["sles"],
    "ims public-keys describe ": ["me"],
    "ims jobs describe ": ["made"],
    "ims jobs shell m": ["made"],
    "ims deleted images describe ": ["old"],
    "ims nights create --recipe ": ["sles"],
    "ims jobs create --public-key-id ": ["me"],
    "ims jobs create --artifact-id ": ["sles"],
    "ims jobs create --job-type customize --artifact-id ": ["site", "two words"],
    "ims images describe nothing": [],
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.usefixtures("fake")
def test_names_are_proposed(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Each name once; ids only if the user types one; never what would control the terminal."""
    assert [text for text in proposed(monkeypatch, line) if text] == LINES[line]


@pytest.mark.parametrize("answer", [503, 401, 200])
def test_service_does_not_answer(fake: FakeService, monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    """Nothing is proposed, and no error disturbs the line."""
    fake.answers["images"] = httpx.Response(answer, text="no JSON")
    assert [text for text in proposed(monkeypatch, "ims images describe ") if text] == []
