"""Runs the step `build_image` as a program, with a clock that is ahead for all programs that it starts.

Usage: `python -m tests.steps.build_later HOURS INPUT`. The kernel uses the real time when it writes files.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path

from ims.builder import kiwi
from ims.settings import settings
from ims.steps import build_image

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


def main(hours: str, step: build_image.Input) -> None:
    """Run the step with the library in the cache folder, which kiwi also mounts in the root."""
    folder = settings().home / "cache" / "packages" / step.lineage
    folder.mkdir(parents=True, exist_ok=True)
    library = str(shutil.copy(LIBRARY, folder))
    kiwi.ENVIRONMENT |= {
        "LD_PRELOAD": library,
        "FAKETIME": f"+{hours}h",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    build_image.run(step)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    main(sys.argv[1], build_image.Input(**json.loads(sys.argv[2])))
