"""What a step tells its task in a pod, within the 4096 bytes that Kubernetes keeps."""

from __future__ import annotations

import base64
import json
import random
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims.errors import PermanentError, UnavailableError
from ims.steps import outcome
from ims.steps.outcome import MARK, MAX_MESSAGE, MAX_OUTCOME, read, write

NOISE = random.Random(1)  # noqa: S311  (no secret)
RESULTS = {
    "nothing": None,
    "a word": "complete",
    "text beyond ASCII": "ä" * 300,
    "a list that is short when compressed": ["/usr/share/doc"] * 2000,
    "a list that is not": [NOISE.randbytes(32).hex() for _ in range(2000)],
}


def lost(_lines: int) -> str:
    """A log that must not be read."""
    pytest.fail("the log was read")


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_result_returns(result: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message is small, whatever the size of the result; what it has no room for is at the end of the log."""
    write({"result": result}, tmp_path / "message")
    message, printed = (tmp_path / "message").read_text(), capsys.readouterr().out
    assert len(message.encode()) <= MAX_MESSAGE
    assert all(line.startswith(MARK) and len(line) < 16384 for line in printed.splitlines())
    log = f"{MARK}a program printed this\n{printed}work took 1.0 s\n".splitlines()
    assert read(message, lambda lines: "\n".join(log[-lines:]) if printed else lost(lines)) == {"result": result}


def test_log_that_was_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines that a program of the job printed, or that are missing, are found by the digest."""
    write({"result": RESULTS["a list that is not"]}, tmp_path / "message")
    lines = capsys.readouterr().out.splitlines()
    message = (tmp_path / "message").read_text()
    for log in ([*lines, f"{MARK}AAAA"], lines[:-1], []):
        with pytest.raises(UnavailableError, match="lacks the result"):
            read(message, lambda _lines, log=log: "\n".join(log))  # type: ignore[misc]


def test_result_is_too_large(tmp_path: Path) -> None:
    """The step fails; a message that would need as much memory is refused."""
    with pytest.raises(PermanentError, match="more than"):
        write({"result": "x" * MAX_OUTCOME}, tmp_path / "message")
    bomb = base64.b64encode(zlib.compress(b" " * (MAX_OUTCOME + 1))).decode()
    with pytest.raises(PermanentError, match="more than"):
        read(json.dumps({"packed": bomb[:100000]}), lost)


BAD_MESSAGES = {
    "empty": "",
    "not JSON": "Killed",
    "not an object": "[]",
    "packed is not base64": '{"packed": "?"}',
    "packed is not compressed": '{"packed": "AAAA"}',
    "number of parts is too large": '{"parts": 1000000000, "sha256": ""}',
    "number of parts is a text": '{"parts": "1", "sha256": ""}',
}


@pytest.mark.parametrize("message", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_bad_message(message: str) -> None:
    """It says nothing, and the log is not read."""
    assert read(message, lost) == {}


@given(st.text(max_size=200))
def test_any_message(message: str) -> None:
    """It never raises anything but ImsErrors."""
    assert isinstance(outcome.read(message, lambda _lines: ""), dict)
