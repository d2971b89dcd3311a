"""Measure how much work it is to splice a large image in which one file has changed."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

from ims.images.squashfs.image import Image
from ims.images.squashfs.reading import open_reader
from ims.images.squashfs.splice import splice
from tests.images.squashfs.large import moved_apart
from tests.images.squashfs.overlays import pack
from tests.perf.measure import table

FOLDERS, FILES = 1500, 100
"""Folders, and files in each: 150,000 files, as in an installation of 10 GB."""
SIZE = 10 * 1024**3


def splicing_table(folder: Path) -> str:
    """Return the processor time of each part, and what has to be written and sent.

    The data of the image are a hole: neither the time nor the tail depend on them.
    """
    base, layer = _images(folder)
    times = [time.process_time()]
    with open_reader(base) as old, open_reader(layer) as added:
        image = Image(old)
        times.append(time.process_time())
        found = sum(1 for _ in image.all_names())
        times.append(time.process_time())
        result = splice(image, Image(added))
        times.append(time.process_time())
    assert found == FOLDERS * FILES + FOLDERS
    parts = ("read the tables", "check every file", "splice")
    rows = [[part, f"{after - before:.2f}"] for part, (before, after) in zip(parts, pairwise(times), strict=True)]
    sent = result.size - result.kept
    title = f"\n### splicing {FOLDERS * FILES:,} files, {result.size / 1e9:.1f} GB, one file changed\n\n"
    written = f"\n\nAfter the old data: {sent / 1e6:.2f} MB, {100 * sent / result.size:.3f} % of the image.\n"
    return title + table(["", "CPU s"], rows) + written


def _images(folder: Path) -> tuple[Path, Path]:
    """A large image, and a layer with one file."""
    tree, upper = folder / "tree", folder / "upper/folder7"
    write_small_files(tree)
    upper.mkdir(parents=True)
    (upper / "file7").write_text("changed\n")
    packed = pack(tree, folder / "packed")
    return moved_apart(packed, folder / "base", SIZE), pack(upper.parent, folder / "layer")


def write_small_files(tree: Path) -> None:
    """Write the files of an installation, all of them small."""
    for number in range(FOLDERS):
        (tree / f"folder{number}").mkdir(parents=True)
        for file in range(FILES):
            (tree / f"folder{number}/file{file}").write_text(f"{number} {file}\n")
