"""Changes a squashfs in an overlay, and splices it."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ims.images.squashfs.image import Image
from ims.images.squashfs.reading import open_reader
from ims.images.squashfs.splice import Splice, splice
from ims.images.squashfs.upper import opaque_folders, store_all_names
from ims.sandbox.overlay import mount, mount_image
from tests.images.squashfs.trees import Change
from tests.images.trees import snapshot, unmount

Snapshot = dict[str, tuple[Any, ...]]


ZSTD = ("-comp", "zstd", "-Xcompression-level", "3")


def pack(root: Path, target: Path, *options: str, compressor: Sequence[str] = ZSTD) -> Path:
    """Pack a folder with the real mksquashfs, as full packing does; returns the squashfs."""
    command = ["mksquashfs", str(root), str(target), "-noappend", "-quiet", "-no-progress", "-mkfs-time", "0"]
    subprocess.run([*command, *compressor, *options], check=True, capture_output=True)
    return target


def pack_layer(base: Path, upper: Path, target: Path) -> Path:
    """Pack the changes of an image as the image was packed; returns the squashfs."""
    with open_reader(base) as reader:
        image = Image(reader)
    return pack(upper, target, "-b", str(image.block.block_size), compressor=image.codec.arguments)


def changed(base: Path, folder: Path, change: Change) -> tuple[Path, list[bytes], Snapshot]:
    """Change an image in an overlay; returns the layer, its opaque folders, and what the kernel shows."""
    changes, root = folder / "changes", folder / "root"
    try:
        mount_image(base, changes, root)
        change(root)
        unmount(folder)
        mount_image(base, changes, root)  # as the step that packs the image sees it
        shown = snapshot(root)
        opaque = opaque_folders(changes)
        with open_reader(base) as reader:
            store_all_names(Image(reader).linked(), changes / "lower", root)
        return pack_layer(base, changes / "upper", folder / "layer"), opaque, shown
    finally:
        unmount(folder)


def spliced(base: Path, layer: Path, target: Path, opaque: Collection[bytes] = ()) -> Path:
    """Splice and write the new squashfs; returns it."""
    with ExitStack() as stack:
        old, added = (Image(stack.enter_context(open_reader(path))) for path in (base, layer))
        write(splice(old, added, opaque), base, layer, target)
    return target


def write(result: Splice, base: Path, layer: Path, target: Path) -> None:
    """Write a spliced squashfs to a file."""
    subprocess.run(["cp", "--sparse=always", base, target], check=True)  # holes stay, and take no time
    with target.open("r+b") as file:
        file.write(result.head)
        file.truncate(result.kept)
        file.seek(result.kept)
        file.write(layer.read_bytes()[result.layer.start : result.layer.stop] + result.tail)
    assert target.stat().st_size == result.size


@contextmanager
def mounted(squashfs: Path, folder: Path) -> Iterator[Path]:
    """Mount a squashfs."""
    folder.mkdir(exist_ok=True)
    mount("-t", "squashfs", "-o", "loop,ro", squashfs, folder)
    try:
        yield folder
    finally:
        unmount(folder)


def check(squashfs: Path, expected: Snapshot, folder: Path) -> None:
    """The kernel and unsquashfs show what is expected, with consistent links and unique numbers."""
    with mounted(squashfs, folder / "mounted") as root:
        assert snapshot(root) == expected
        check_numbers(root)
    subprocess.run(["unsquashfs", "-stat", squashfs], check=True, capture_output=True)
    command = ["unsquashfs", "-quiet", "-no-progress", "-dest", str(folder / "unpacked"), str(squashfs)]
    subprocess.run(command, check=True, capture_output=True)
    assert snapshot(folder / "unpacked") == expected


def check_numbers(root: Path) -> None:
    """Folders count their subfolders; inode numbers are unique, except for the names of one file."""
    numbers = dict[int, Path]()
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as entries:
                assert status.st_nlink == 2 + sum(entry.is_dir(follow_symlinks=False) for entry in entries), path
        first = numbers.setdefault(status.st_ino, path)
        assert first == path or status.st_nlink > 1, (first, path)
