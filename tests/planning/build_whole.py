"""Builds an image and makes its artifacts in one process: `python -m tests.planning.build_whole RESULT BUILD PACKAGE`.

The inputs of the two steps are JSON. The file RESULT becomes the SHA-256 of each artifact that nodes boot.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from ims.steps import build_image, package_artifacts

BOOTED = ("rootfs", "kernel", "initrd", "boot_parameters")


def main(result: Path, build: str, package: str) -> None:
    """Run both steps."""
    build_image.run(build_image.Input.model_validate_json(build))
    batches = package_artifacts.run(package_artifacts.Input.model_validate_json(package))
    digests = {item.name: item.sha256 for batch in batches for item in batch.artifacts if item.name in BOOTED}
    result.write_text(json.dumps(digests))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    main(Path(sys.argv[1]), *sys.argv[2:])
