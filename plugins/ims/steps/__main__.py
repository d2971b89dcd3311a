"""Runs one step as a program, see `ims.steps`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from ims import masking
from ims.errors import ImsError, disk_full
from ims.files import write_atomically
from ims.logs import configure_logging
from ims.steps import outcome as outcomes
from ims.steps.locks import locked
from ims.steps.step import Step, StepInput, load_step

log = logging.getLogger("ims")

MAX_TEXT = 600
"""The longest text of an error in an outcome file, in characters."""


def main(arguments: list[str] | None = None) -> int:
    """Run the step that the command line names; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m ims.steps")
    parser.add_argument("name")
    parser.add_argument("--input", type=Path, help="file with the input as JSON; by default standard input")
    parser.add_argument("--result", type=Path, help="file for the result or the error, as JSON")
    parser.add_argument("--outcome", type=Path, help="file for the same in at most 4096 bytes, see ims.steps.outcome")
    parser.add_argument("--open", action="store_true", help="let later steps that run as other users write")
    options = parser.parse_args(arguments)
    configure_logging()
    started = time.monotonic()
    try:
        result = run(load_step(options.name), _read_input(options.input), opens=options.open)
        log.info("%s took %.1f s", options.name, time.monotonic() - started)
        if options.outcome is not None:
            outcomes.write({"result": result}, options.outcome)
    except ImsError as error:
        return _fail(options.name, error, options.result, options.outcome)
    if options.result is not None:
        write_atomically(options.result, json.dumps({"result": result}))
    return 0


def run(step: Step[Any], data: bytes | str, *, opens: bool = False) -> Any:
    """Run a step on its input in JSON; returns its result as JSON can represent it. Raises ImsError.

    A step that `opens` the workspace lets steps that run as other users write to it.
    """
    found: StepInput = step.read_input(data)
    try:
        with locked(found.workspace, shared=step.parallel):
            found.workspace.refuse_links()
            masking.load(found.workspace.secrets).hide()
            try:
                return to_jsonable_python(step.run(found))
            finally:
                if opens:
                    found.workspace.open_to_all()
    except OSError as error:
        raise disk_full(error) or error from None


def _read_input(path: Path | None) -> bytes:
    """Read the input. Nothing that the step starts can read its standard input again."""
    if path is not None:
        return path.read_bytes()
    data = sys.stdin.buffer.read()
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    return data


def _fail(name: str, error: ImsError, result: Path | None, outcome: Path | None) -> int:
    log.error("%s failed: %s", name, error)
    content = {"error": masking.masked(error.reason), "hint": masking.masked(error.hint)}
    if result is not None:
        with suppress(OSError):  # the disk may be full; the error is in the log
            write_atomically(result, json.dumps(content))
    if outcome is not None:
        outcomes.write({field: text[:MAX_TEXT] for field, text in content.items()}, outcome)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
