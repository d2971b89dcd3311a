"""The list of all files of an image: written when it is packed, read to compare it with another.

Each line is a file as JSON. The names of a folder are in order, and what is in a folder follows it at once.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from ims.errors import InputError
from ims.images.changes import VOLATILE
from ims.images.root import printable

LIST = "files.jsonl.gz"
MAX_LINE = 64 * 1024  # a path and a target have 4096 bytes each, a byte four characters at most, each of two bytes
MAX_BYTES = 2 * 1024**3  # of a list that is unpacked: ten million files
_CHUNK = 1024 * 1024

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


class File(BaseModel):
    """A file. `size` and `sha256` are a regular one's; `target` is where a link leads, or the numbers of a device."""

    path: str
    type: str
    mode: str
    uid: int
    gid: int
    size: int = 0
    sha256: str = ""
    target: str = ""


def write_files(root: Path, target: Path, left_out: Collection[str]) -> None:
    """List the files of an image root, but for what is `left_out` at its top. The same tree gives the same bytes."""
    buffer = memoryview(bytearray(_CHUNK))
    with target.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        for path in _walk(root, left_out):
            file = _describe(path, f"/{path.relative_to(root)}", buffer)
            packed.write(file.model_dump_json(exclude_defaults=True).encode() + b"\n")


def read_lines(chunks: Iterable[bytes], name: object) -> Iterator[bytes]:
    """The lines of a list that is packed. Raises InputError: it is damaged, or beyond limits."""
    rest, size = b"", 0
    for data in _unpacked(chunks, name):
        size += len(data)
        *lines, rest = (rest + data).split(b"\n")
        if size > MAX_BYTES or len(rest) > MAX_LINE:
            raise InputError(f"the list of files {name} is longer than that of any image")
        yield from lines


def _walk(root: Path, left_out: Collection[str]) -> Iterator[Path]:
    """All below a root; what is in folders that are not part of an image at rest is passed over."""
    pending = [path for path in _names(root) if path.name not in left_out]
    while pending:
        path = pending.pop()
        yield path
        if not path.is_symlink() and path.is_dir() and not (path.parent == root and path.name in VOLATILE):
            pending.extend(_names(path))


def _names(folder: Path) -> list[Path]:
    """The last name comes first: it is taken from the end."""
    return sorted(folder.iterdir(), key=lambda path: printable(path.name), reverse=True)


def _describe(path: Path, name: str, buffer: memoryview) -> File:
    status = path.lstat()
    kind = stat.S_IFMT(status.st_mode)
    file = File(
        path=printable(name),
        type=_TYPES[kind],
        mode=f"{stat.S_IMODE(status.st_mode):04o}",
        uid=status.st_uid,
        gid=status.st_gid,
    )
    if kind == stat.S_IFREG:
        file.size = status.st_size
        file.sha256 = _sha256(path, buffer)
    elif kind == stat.S_IFLNK:
        file.target = printable(str(path.readlink()))
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        file.target = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return file


def _sha256(path: Path, buffer: memoryview) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def _unpacked(chunks: Iterable[bytes], name: object) -> Iterator[bytes]:
    """What was packed, in pieces of a bounded size however well it was packed."""
    unpack = zlib.decompressobj(wbits=31)
    try:
        for chunk in chunks:
            while chunk and not unpack.eof:
                yield unpack.decompress(chunk, _CHUNK)
                chunk = unpack.unconsumed_tail
    except zlib.error as error:
        raise InputError(f"the list of files {name} is damaged: {error}") from None
    if not unpack.eof:
        raise InputError(f"the list of files {name} ends too early")
