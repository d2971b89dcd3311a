"""The list of all files of an image: written when the image is packed, read to compare it with another.

Each line is a file as JSON. The files of a folder are sorted, and the content of a subfolder directly follows it.
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
from ims.images.root import printable
from ims.images.tree import walk

LIST = "files.jsonl.gz"
MAX_LINE = 64 * 1024  # path and target have up to 4096 bytes each; a byte takes up to four characters of two bytes
MAX_BYTES = 2 * 1024**3  # of the unpacked list
MAX_FILES = 2_000_000  # the API reads 100,000 lines in a second, and a list of a few MB can unpack to 100 million
_CHUNK = 1024 * 1024
_LINES_A_BLOCK = 512
"""The average number of lines that are compressed together."""

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
    """A file. Regular files have `size` and `sha256`. `target` is that of a link, or the numbers of a device."""

    path: str
    type: str
    mode: str
    uid: int
    gid: int
    size: int = 0
    sha256: str = ""
    target: str = ""


def write_files(root: Path, target: Path, excluded: Collection[str]) -> None:
    """List the files of an image root, except the top-level ones in `excluded`. Equal trees give equal bytes.

    Raises InputError if a path is too long.
    """
    buffer, paths = new_buffer(), walk(root, excluded, volatile=False)
    write_lines((describe_file(path, f"/{path.relative_to(root)}", buffer) for path in paths), target)


def write_lines(lines: Iterable[bytes], target: Path) -> None:
    """Write a compressed list. Equal lines give equal bytes.

    The compression starts again after some lines, so that lists that differ in few lines share most of their bytes.
    """
    with target.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        for line in lines:
            packed.write(line + b"\n")
            if zlib.crc32(line) % _LINES_A_BLOCK == 0:
                packed.flush(zlib.Z_FULL_FLUSH)


def new_buffer() -> memoryview:
    """A buffer for `describe_file`."""
    return memoryview(bytearray(_CHUNK))


def describe_file(path: Path, name: str, buffer: memoryview) -> bytes:
    """The line of a file that is `name` in the image."""
    return _describe(path, name, buffer).model_dump_json(exclude_defaults=True).encode()


def read_lines(chunks: Iterable[bytes], name: object) -> Iterator[bytes]:
    """The lines of a compressed list. Raises InputError if it is damaged or too long."""
    rest, size, count = b"", 0, 0
    for data in _unpacked(chunks, name):
        *lines, rest = (rest + data).split(b"\n")
        size, count = size + len(data), count + len(lines)
        if size > MAX_BYTES or count > MAX_FILES or len(rest) > MAX_LINE:
            raise InputError(f"the list of files {name} is too long")
        yield from lines


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
    with open(path, "rb", buffering=0, opener=_without_trace) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def _without_trace(path: str, flags: int) -> int:
    """Open a file so that reading it does not change its time of access.

    mksquashfs packs it at the same time, and does not recognize another name of a file whose times have changed.
    """
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # it is another user's
        return os.open(path, flags)


def _unpacked(chunks: Iterable[bytes], name: object) -> Iterator[bytes]:
    """The uncompressed data in pieces of bounded size, whatever the compression ratio."""
    unpack = zlib.decompressobj(wbits=31)
    try:
        for chunk in chunks:
            while chunk and not unpack.eof:
                yield unpack.decompress(chunk, _CHUNK)
                chunk = unpack.unconsumed_tail
    except zlib.error as error:
        raise InputError(f"the list of files {name} is damaged: {error}") from None
    if not unpack.eof:
        raise InputError(f"the list of files {name} is incomplete")
