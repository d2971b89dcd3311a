"""Running programs whose output is logged."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ims import programs
from ims.errors import PermanentError
from ims.programs import run_logged
from ims.recipes.kiwi_log import LineParser

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
LOG = """\
[ INFO    ]: 12:00:00 | Installing
[ DEBUG   ]: 12:00:01 | system: one
two
[ ERROR   ]: 12:00:02 | it failed
"""


def test_lines_carry_their_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """kiwi's levels become those of the log; the copy and the returned lines are complete."""
    (tmp_path / "log").write_text(LOG)
    with caplog.at_level(logging.DEBUG):
        code, last = run_logged(["cat", tmp_path / "log"], ENVIRONMENT, copy=tmp_path / "kiwi.log", parse=LineParser())
    assert (code, list(last)) == (0, LOG.splitlines())
    assert (tmp_path / "kiwi.log").read_text() == LOG
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "Installing"),
        ("DEBUG", "system: one"),
        ("DEBUG", "two"),
        ("ERROR", "it failed"),
    ]


def test_copy_is_appended_to(tmp_path: Path) -> None:
    """Two programs can share a log."""
    for word in ("one", "two"):
        run_logged(["echo", word], ENVIRONMENT, copy=tmp_path / "log")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_other_programs_are_logged_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    """The level is INFO, for standard output and standard error."""
    with caplog.at_level(logging.INFO):
        code, last = run_logged(["sh", "-c", "echo out; echo err >&2; exit 3"], ENVIRONMENT)
    assert (code, list(last)) == (3, ["out", "err"])
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_program_that_prints_without_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the memory nor the disk fills up, whether it prints lines or not."""
    monkeypatch.setattr(programs, "MAX_OUTPUT", 1_000_000)
    for endless in ("while true; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done", "exec cat /dev/zero"):
        caplog.clear()
        with pytest.raises(PermanentError, match="sh printed more than 1000000 characters"):
            run_logged(["sh", "-c", endless], ENVIRONMENT, copy=tmp_path / "log")
    assert (tmp_path / "log").stat().st_size < 3_000_000


def test_program_is_killed_when_its_time_is_over() -> None:
    """If the time limit kills the program, the exit code is negative."""
    code, last = run_logged(["sh", "-c", "echo begun; exec sleep 60"], ENVIRONMENT, seconds=0.5)
    assert (code, list(last)) == (-9, ["begun"])
