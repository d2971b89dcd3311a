"""Runs the step `build_image` as a program, with a clock that is ahead for all programs that it starts.

Usage: `python -m tests.steps.build_later HOURS INPUT`. The kernel uses the real time when it writes files.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ims.builder import kiwi
from ims.sandbox.call import call
from ims.sandbox.network import SandboxNetwork
from ims.sandbox.view import View
from ims.steps import build_image
from ims.steps.build_image import Input, Work

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
PROJECT = Path(__file__).parents[2]
PREFIX = "LATER_"
"""Of the variables that only the programs in the sandbox get."""


def main(hours: str, step: Input) -> None:
    """Run the step."""
    clock = {"FAKETIME": f"+{hours}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    os.environ |= {"PYTHONPATH": str(PROJECT)} | {f"{PREFIX}{name}": value for name, value in clock.items()}
    vars(build_image).update(call=_call, install_packages=install_packages, finish=finish)
    build_image.run(step)


def _call(
    function: Callable[[Input], Any], work: Input, view: View, network: SandboxNetwork | None = None, **options: Any
) -> Any:
    return call(function, work, replace(view, readable=(*view.readable, PROJECT)), network, **options)


def install_packages(work: Work) -> str | None:
    """In the sandbox."""
    _set_clock(work)
    return build_image.install_packages(work)


def finish(work: Work) -> None:
    """In the sandbox."""
    _set_clock(work)
    build_image.finish(work)


def _set_clock(work: Work) -> None:
    """Use the library in the package cache, which kiwi also mounts in the image root."""
    kiwi.ENVIRONMENT["LD_PRELOAD"] = str(shutil.copy(LIBRARY, work.packages_folder))
    for name, value in os.environ.items():
        if name.startswith(PREFIX):
            kiwi.ENVIRONMENT[name.removeprefix(PREFIX)] = value


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    from tests.steps.build_later import main as run

    run(sys.argv[1], Input(**json.loads(sys.argv[2])))
