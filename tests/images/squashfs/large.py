"""Images of more than 4 GiB that take no space on the disk."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

from ims.images.squashfs.image import Image
from ims.images.squashfs.reading import open_reader
from ims.images.squashfs.superblock import NO_TABLE, SIZE
from tests.images.squashfs.trees import noise

GAP = 17 * 256 * 1024**2
"""More than a position of 32 bits."""


def moved_apart(base: Path, target: Path, gap: int = GAP) -> Path:
    """A squashfs with a hole between its data and its tables, which takes no space on the disk."""
    content = base.read_bytes()
    with open_reader(base) as reader:
        block = Image(reader).block
    names = ("inode_start", "folder_start", "fragment_start", "export_start", "id_start", "xattr_start", "bytes_used")
    starts = {name: getattr(block, name) - block.inode_start for name in names if getattr(block, name) != NO_TABLE}
    moved = replace(block, **{name: start + block.inode_start + gap for name, start in starts.items()})
    tables = bytearray(content[block.inode_start :])
    shift_index(tables, starts["fragment_start"], -(-block.fragments * 16 // 8192), gap)
    shift_index(tables, starts["id_start"], -(-block.ids * 4 // 8192), gap)
    if "export_start" in starts:
        shift_index(tables, starts["export_start"], -(-block.inodes * 8 // 8192), gap)
    if (xattrs := starts.get("xattr_start")) is not None:
        (count,) = struct.unpack_from("<I", tables, xattrs + 8)
        shift_index(tables, xattrs, 1, gap)
        shift_index(tables, xattrs + 16, -(-count * 16 // 8192), gap)
    with target.open("wb") as file:
        file.write(moved.pack() + content[SIZE : block.inode_start])
        file.seek(block.inode_start + gap)
        file.write(tables)
    return target


def shift_index(tables: bytearray, at: int, count: int, gap: int) -> None:
    """Move the positions in an index by the gap."""
    layout = struct.Struct(f"<{count}Q")
    layout.pack_into(tables, at, *(start + gap for start in layout.unpack_from(tables, at)))


def write_small_tree(root: Path) -> Path:
    """Blocks, fragments, several names and attributes."""
    (root / "etc").mkdir(parents=True)
    for number in range(50):
        (root / f"etc/file{number}").write_text(f"{number}\n" * 200)
    (root / "large").write_bytes(noise(700_001))
    (root / "etc/linked").hardlink_to(root / "large")
    os.setxattr(root / "etc/file3", "user.note", b"x" * 100)
    return root


def change_small_tree(root: Path) -> None:
    """New blocks and fragments, and a removed name."""
    (root / "etc/new").write_bytes(noise(400_000, 2))
    (root / "etc/file7").write_text("changed")
    os.setxattr(root / "etc/new", "user.note", b"new")
    (root / "etc/linked").unlink()


def add_to_small_tree(root: Path) -> None:
    """A second layer."""
    (root / "more").write_bytes(noise(300_000, 3))
    (root / "etc/new").unlink()
