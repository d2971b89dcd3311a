"""Secrets in what a step prints."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest

from ims import masking
from ims.errors import InputError
from ims.masking import MASK, Secrets, hide, load, masked, save

SECRET = 'pl4n+ed/"s3cret"&x'


@pytest.fixture(autouse=True)
def _nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without secrets, and leaves none."""
    monkeypatch.setattr(masking, "_hidden", [])


@pytest.mark.parametrize("before", ["", "u", "us", "user:", "someone:"])
def test_every_spelling_is_hidden(before: str) -> None:
    """A program may print a secret in a URL, in JSON, in XML, or as part of a login in base64."""
    hide([SECRET])
    basic = base64.b64encode(f"{before}{SECRET}".encode()).decode()
    for text in (SECRET, quote(SECRET, safe=""), quote(SECRET), json.dumps(SECRET), escape(SECRET), basic):
        assert MASK in masked(f"x {text} y"), text
    assert basic[len(before) * 4 // 3 + 2 : -6] not in masked(f"Authorization: Basic {basic}")


def test_longer_secrets_first() -> None:
    """A secret that contains another one leaves no rest."""
    hide(["planted", "planted-and-more"])
    assert masked("a planted-and-more b") == f"a {MASK} b"


def test_lines_of_a_secret_are_hidden() -> None:
    """A log has single lines."""
    hide(["first-line\nsecond-line\n"])
    assert masked("second-line") == MASK


def test_short_secrets_are_not_hidden() -> None:
    """They occur in ordinary words."""
    hide(["", "a", "root"])
    assert masked("a root of an image") == "a root of an image"


def test_file_of_secrets(tmp_path: Path) -> None:
    """Only its owner reads it; without it there are no secrets."""
    path = tmp_path / "secrets.json"
    assert load(path) == Secrets()
    save(path, Secrets(passwords=["planted"], users=["user"]))
    assert load(path) == Secrets(passwords=["planted"], users=["user"])
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a folder", "no JSON", "no list", "too large"])
def test_file_that_a_script_replaced(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts of a recipe could write to the workspace; the step neither hangs nor reads another file."""
    path = tmp_path / "secrets.json"
    monkeypatch.setattr(masking, "MAX_FILE", 100)
    other = tmp_path / "other"
    save(other, Secrets(passwords=["planted"]))
    match kind:
        case "a link":
            path.symlink_to(other)
        case "a pipe":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()
        case _:
            path.write_text({"no JSON": "x", "no list": "[]", "too large": f'{{"users": ["{"x" * 100}"]}}'}[kind])
    with pytest.raises(InputError, match="does not list the secrets"):
        load(path)
