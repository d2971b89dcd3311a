"""Reads every file of squashfs on the kernel that runs it: `python -m tests.images.squashfs.guest FILE...`.

It prints a digest of each tree as JSON. A test boots a kernel and starts this program on it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import tempfile
from pathlib import Path

from tests.images.squashfs.overlays import Snapshot, mounted
from tests.images.trees import snapshot


def digest(shown: Snapshot) -> str:
    """One text for everything that a tree has."""
    return hashlib.sha256(repr(sorted(shown.items())).encode()).hexdigest()


def main() -> None:
    """Print the version of the kernel and the digests."""
    with tempfile.TemporaryDirectory() as name:
        found = {"kernel": platform.release()}
        for path in map(Path, sys.argv[1:]):
            with mounted(path, Path(name) / path.name) as root:
                found[path.name] = digest(snapshot(root))
        print(json.dumps(found))


if __name__ == "__main__":
    main()
