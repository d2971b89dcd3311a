"""Packs the rootfs of a customized image: only the changes, behind the data of the old rootfs.

`ims.builder.root_base` does the same for builds, with the functions below.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from ims.builder.squashfs import KIWI_FILES, make_rootfs
from ims.images.squashfs.image import Image, Linked
from ims.images.squashfs.reading import open_reader
from ims.images.squashfs.rules import check_base, check_layer, check_size
from ims.images.squashfs.splice import Splice, splice
from ims.images.squashfs.superblock import SIZE, Reader
from ims.images.squashfs.upper import store_all_names
from ims.images.tree import VOLATILE
from ims.sandbox.overlay import LOWER, UPPER, Layers
from ims.settings import settings

HEAD = SIZE
"""The bytes at the beginning of the old rootfs that are replaced."""
_BLOCK_SIZE = 128 * 1024
"""The default of mksquashfs."""
_CHUNK = 4 * 1024**2


def splice_rootfs(image: Layers, opaque: Collection[bytes], target: Path) -> int:
    """Writes what makes a new rootfs of an old one: a new head of `HEAD` bytes, and what follows the old data.

    `image` is the old rootfs, which is mounted with its changes; `opaque` are the folders of the overlay that hide
    those of the old image. Returns how many bytes of the old rootfs stay. Raises SpliceError if it must be packed in
    full.
    """
    layer_file = target.with_name(f"{target.name}.layer")
    with open_reader(image.rootfs) as reader:
        base, linked = checked_base(reader)
        store_all_names(linked, image.changes / LOWER, image.target)
        try:
            make_rootfs(image.changes / UPPER, layer_file, (*base.codec.arguments, "-b", str(base.block.block_size)))
            with open_reader(layer_file) as layer_reader:
                layer = Image(layer_reader)
                check_layer(base, layer)
                result = splice(base, layer, opaque)
            write_spliced(result, [(layer_file, result.layer)], target)
        finally:
            layer_file.unlink(missing_ok=True)
    return result.kept


def checked_base(reader: Reader) -> tuple[Image, list[Linked]]:
    """The squashfs that a rootfs continues, and all names of its files that have several.

    Raises SpliceError if the rootfs must be packed in full.
    """
    check_size(reader)
    base = Image(reader)
    return base, check_base(base, settings().squashfs_level, _BLOCK_SIZE, _encoded(VOLATILE), _encoded(KIWI_FILES))


def write_spliced(result: Splice, parts: Iterable[tuple[Path, range]], target: Path) -> None:
    """Write the head of a splice, these parts of files, and its tail."""
    with target.open("wb") as file:
        file.write(result.head)
        for path, part in parts:
            with path.open("rb") as source:
                source.seek(part.start)
                for start in range(part.start, part.stop, _CHUNK):
                    file.write(source.read(min(_CHUNK, part.stop - start)))
        file.write(result.tail)


def _encoded(names: Collection[str]) -> set[bytes]:
    return {os.fsencode(name) for name in names}
