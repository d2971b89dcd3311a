"""Packs the rootfs of a build in two parts: what it kept of its package root, the *base*, and its changes behind that.

The base is the same for all builds that keep the same files of the same package root, so they pack only their changes.
It contains nothing that a build removed or replaced.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from ims.builder.splicing import checked_base, write_spliced
from ims.builder.squashfs import KIWI_FILES, make_rootfs
from ims.images.squashfs.image import Image
from ims.images.squashfs.reading import open_reader
from ims.images.squashfs.splice import splice
from ims.images.squashfs.superblock import SIZE, SpliceError
from ims.images.tree import VOLATILE, names, walk
from ims.sandbox.overlay import LOWER, UPPER

MIN_SIZE = 32 * 1024**2
"""Bytes of all files of a package root. To pack a smaller one again takes almost no time."""
MAX_REPLACED = 200_000
_PRINTABLE = re.compile(rb"[\x20-\x7e]+")
_SPECIAL = re.compile(rb"[^A-Za-z0-9_./-]")


def check_root(root: Path) -> None:
    """Raises SpliceError if a package root is so small that its rootfs is packed in full."""
    size = 0
    for path in walk(root):
        status = path.lstat()
        size += status.st_size if stat.S_ISREG(status.st_mode) else 0
        if size >= MIN_SIZE:
            return
    raise SpliceError(f"the files of the package root have {size} bytes, fewer than {MIN_SIZE}")


def replaced_files(changes: Path, opaque: Collection[bytes]) -> list[bytes]:
    """The paths in a package root that a build removed or replaced, sorted; a folder stands for everything in it.

    `changes` are the folders of the overlay, `opaque` those that hide the folders of the package root. Raises
    SpliceError if there are too many.
    """
    found = sorted(os.fsencode(path) for path in _replaced(changes / LOWER, changes / UPPER, set(opaque)))
    if len(found) > MAX_REPLACED:
        raise SpliceError(f"{len(found)} files of the package root were removed or replaced, more than {MAX_REPLACED}")
    return found


def _replaced(lower: Path, upper: Path, opaque: Collection[bytes]) -> Iterator[str]:
    excluded = {*KIWI_FILES, *VOLATILE}
    pending = [name for name in names(upper) if name not in excluded]
    while pending:
        path = pending.pop()
        old, new = lower / path, upper / path
        if not os.path.lexists(old):
            continue
        is_same_folder = all(stat.S_ISDIR(item.lstat().st_mode) for item in (old, new))
        if is_same_folder and os.fsencode(path) not in opaque:
            pending.extend(f"{path}/{name}" for name in names(new))
        else:
            yield path


def write_patterns(paths: Collection[bytes], target: Path) -> None:
    """Write patterns of mksquashfs that match these paths and nothing else.

    Raises SpliceError if a path has characters that mksquashfs might read in another way.
    """
    if any(_PRINTABLE.fullmatch(path) is None for path in paths):
        raise SpliceError("a file with an unusual name was removed or replaced")
    # mksquashfs drops a backslash at the beginning of a line, which protects the character after it.
    target.write_bytes(b"".join(b"\\" + _SPECIAL.sub(rb"\\\g<0>", path) + b"\n" for path in paths))


def pack_base(root: Path, patterns: Path, target: Path) -> None:
    """Pack a package root without the files that match the patterns. Raises ImsError."""
    make_rootfs(root, target, exclude=patterns)


def write_rootfs(base: Path, changes: Path, opaque: Collection[bytes], target: Path) -> None:
    """Write the rootfs of a build, whose overlay has the folders `changes` and the folders `opaque`, which hide others.

    Raises SpliceError if it must be packed in full.
    """
    layer_file = target.with_name(f"{target.name}.layer")
    try:
        with open_reader(base) as reader:
            packed, _ = checked_base(reader)
            # Whether a file that was copied from a package root has holes depends on how that was mounted.
            make_rootfs(changes / UPPER, layer_file, (*packed.codec.arguments, "-no-sparse"))
            with open_reader(layer_file) as layer_reader:
                result = splice(packed, Image(layer_reader), opaque)
        write_spliced(result, [(base, range(SIZE, result.kept)), (layer_file, result.layer)], target)
    finally:
        layer_file.unlink(missing_ok=True)
