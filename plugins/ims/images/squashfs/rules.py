"""When a changed squashfs is spliced. Otherwise, it is packed in full."""

from __future__ import annotations

from collections.abc import Collection

from ims.images.squashfs.codecs import Zstd
from ims.images.squashfs.image import Image, Linked, is_linked, stored_fragment
from ims.images.squashfs.inodes import FOLDER, NONE, Content
from ims.images.squashfs.merge import is_whiteout
from ims.images.squashfs.superblock import Reader, SpliceError

MIN_KEPT = 10 * 1024**2
"""Bytes. Packing fewer takes no time, and parts that S3 copies have at least 5 MiB."""
MAX_LAYER = 0.3
"""Of the base."""
MAX_GARBAGE = 0.2
"""Of the data. Earlier splices leave the content of files that were removed or replaced."""


def check_size(base: Reader) -> None:
    """Raises SpliceError if a squashfs is so small that it is not worthwhile to splice it."""
    if base.size < MIN_KEPT:
        raise SpliceError(f"it has {base.size} bytes, fewer than {MIN_KEPT}")


def check_base(
    base: Image, level: int, block_size: int, empty: Collection[bytes], absent: Collection[bytes]
) -> list[Linked]:
    """Reads all metadata of an image; returns all names of the files that have several.

    Raises SpliceError if it is damaged, or should not or cannot be spliced.
    `level` and `block_size` are those of full packing. An image compressed with zstd must have them; images with
    another compressor keep theirs. Full packing leaves out the content of the top-level folders `empty`, and the
    top-level files `absent`.
    """
    if isinstance(base.codec, Zstd) and (base.codec.level, base.block.block_size) != (level, block_size):
        found = f"its compression level is {base.codec.level}, its block size {base.block.block_size}"
        raise SpliceError(f"{found}, not {level} and {block_size}")
    if base.block.inode_start < MIN_KEPT:
        raise SpliceError(f"its data have {base.block.inode_start} bytes, fewer than {MIN_KEPT}")
    if any(name.startswith(b"trusted.") for names in base.xattrs.sets() for name, _ in names):
        raise SpliceError("it has attributes with the prefix trusted")
    _check_top(base, empty, absent)
    data = base.block.inode_start - base.data_start
    used, linked = _survey(base)
    if (garbage := data - used) > MAX_GARBAGE * data:
        raise SpliceError(f"{garbage} of its {data} bytes are no longer in use")
    return linked


def check_layer(base: Image, layer: Image) -> None:
    """Raises SpliceError if a layer is so large that it is not worthwhile to splice it."""
    size = layer.block.inode_start - layer.data_start
    if size > MAX_LAYER * base.block.inode_start:
        raise SpliceError(f"the changes have {size} bytes, the image {base.block.inode_start}")


def _check_top(base: Image, empty: Collection[bytes], absent: Collection[bytes]) -> None:
    for name, entry in base.names(base.inode(base.root)):
        if name in absent or (name in empty and entry.kind == FOLDER and any(base.names(base.inode(entry)))):
            raise SpliceError(f"it has files in /{name.decode(errors='replace')} that are not part of images")


def _survey(base: Image) -> tuple[int, list[Linked]]:
    """The bytes of the data that files refer to, and the names of files that have several.

    Raises SpliceError if a file hides others.
    """
    contents, fragments, linked = dict[int, int](), set[int](), list[Linked]()
    for folder, name, entry, inode in base.all_names():
        if is_whiteout(inode):
            raise SpliceError("it has a device with the number 0:0")
        if isinstance(inode.body, Content):
            contents[inode.body.start] = inode.body.stored
            fragments.add(inode.body.fragment)
        if is_linked(inode):
            linked.append(Linked(folder, name, entry))
    fragments.discard(NONE)
    sizes = [stored_fragment(item) for item in base.fragments.entries()]
    return sum(contents.values()) + sum(sizes[number] for number in fragments), linked
