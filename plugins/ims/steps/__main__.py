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
from ims.steps.locks import locked
from ims.steps.step import Step, StepInput, load_step

log = logging.getLogger("ims")

MAX_OUTCOME = 600
"""The longest text in an outcome file, in characters. JSON may need six bytes for each."""


def main(arguments: list[str] | None = None) -> int:
    """Run the step that the command line names; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m ims.steps")
    parser.add_argument("name")
    parser.add_argument("--input", type=Path, help="file with the input as JSON; by default standard input")
    parser.add_argument("--result", type=Path, required=True, help="file for the result, as JSON")
    parser.add_argument(
        "--outcome", type=Path, help="file for an error or a result of one word, as JSON of at most 4096 bytes"
    )
    options = parser.parse_args(arguments)
    configure_logging()
    started = time.monotonic()
    try:
        result = run(load_step(options.name), _read_input(options.input))
    except ImsError as error:
        return _fail(options.name, error, options.result, options.outcome)
    log.info("%s took %.1f s", options.name, time.monotonic() - started)
    write_atomically(options.result, json.dumps({"result": result}))
    if options.outcome is not None and isinstance(result, str):
        options.outcome.write_text(json.dumps({"result": result}))
    return 0


def run(step: Step[Any], data: bytes | str) -> Any:
    """Run a step on its input in JSON; returns its result as JSON can represent it. Raises ImsError."""
    found: StepInput = step.read_input(data)
    try:
        with locked(found.workspace, shared=step.parallel):
            found.workspace.refuse_links()
            masking.load(found.workspace.secrets).hide()
            return to_jsonable_python(step.run(found))
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


def _fail(name: str, error: ImsError, result: Path, outcome: Path | None) -> int:
    log.error("%s failed: %s", name, error)
    content = {"error": masking.masked(error.reason), "hint": masking.masked(error.hint)}
    with suppress(OSError):  # the disk may be full; the error is in the log
        write_atomically(result, json.dumps(content))
    if outcome is not None:
        outcome.write_text(json.dumps({field: text[:MAX_OUTCOME] for field, text in content.items()}))
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
