"""Inodes: the attributes of files, and where their content is."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from ims.images.squashfs.metadata import Table
from ims.images.squashfs.superblock import SpliceError

FOLDER, FILE, LINK, BLOCK_DEVICE, CHARACTER_DEVICE, PIPE, SOCKET = range(1, 8)
NONE = 0xFFFFFFFF
MAX_LISTING = 64 * 1024**2
"""Bytes of the listing of a folder: about a million names."""
_MAX_BLOCKS = 4 * 1024**2
"""Blocks of a file: 512 GiB, if a block has 128 KiB."""
_MAX_TARGET = 65535
_EXTENDED = 7
"""The type of an inode with all fields is greater by this."""
_FIXED_SIZE = 56
_HEADER = struct.Struct("<HHHHII")
_BASIC_FOLDER = struct.Struct("<IIHHI")
_EXTENDED_FOLDER = struct.Struct("<IIIIHHI")
_BASIC_FILE = struct.Struct("<IIII")
_EXTENDED_FILE = struct.Struct("<QQQIIII")
_LINK = struct.Struct("<II")
_DEVICE = struct.Struct("<III")
_PIPE = struct.Struct("<II")
_INDEX = struct.Struct("<III")
_NO_XATTRS = struct.pack("<I", NONE)
_LISTING_EXTRA = 3
"""How much more the size of a listing says, for the names `.` and `..`."""


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a regular file: blocks from `start` on, and a part of a fragment."""

    start: int
    size: int
    sparse: int
    fragment: int
    offset: int
    sizes: bytes

    @property
    def stored(self) -> int:
        """The bytes of all blocks in the squashfs."""
        sizes = array("I")
        sizes.frombytes(self.sizes)
        return sum(size & 0xFFFFFF for size in sizes)


@dataclass(frozen=True, slots=True)
class Listing:
    """Where the names in a folder are. `size` is that of the names, `index` finds some of them in a long listing."""

    block: int
    offset: int
    size: int
    parent: int
    index: tuple[tuple[int, int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Inode:
    """A file. `uid` and `gid` are places in the table of owners, `xattrs` in that of attributes.

    `body` is a Content, a Listing, the target of a link, the number of a device, or None.
    """

    kind: int
    mode: int
    uid: int
    gid: int
    time: int
    number: int
    links: int
    xattrs: int
    body: Content | Listing | bytes | int | None

    @property
    def listing(self) -> Listing:
        """The names in a folder. Raises SpliceError if this is none."""
        if not isinstance(self.body, Listing):
            raise SpliceError("a file is used as a folder")
        return self.body


def read_inode(table: Table, place: int, block_size: int) -> Inode:
    """Reads the inode at a place of the table of inodes. Raises SpliceError."""
    start, offset = place >> 16, place & 0xFFFF
    raw = table.read_at_most(start, offset, _FIXED_SIZE)
    try:
        kind, mode, uid, gid, time, number = _HEADER.unpack_from(raw)
        is_extended = kind > _EXTENDED
        kind -= _EXTENDED if is_extended else 0
        if kind not in _READERS:
            raise SpliceError(f"a file has the unknown type {kind}")
        links, xattrs, body, rest = _READERS[kind](raw, is_extended, block_size)
        if rest is not None:
            whole = raw if rest.stop <= len(raw) else table.read(start, offset, rest.stop)
            body, xattrs = _complete(body, xattrs, whole[rest.start : rest.stop])
    except struct.error:
        raise SpliceError("the table of inodes ends too early") from None
    return Inode(kind, mode, uid, gid, time, number, links, xattrs, body)


_Body = Content | Listing | bytes | int | None
_Fields = tuple[int, int, _Body, range | None]
"""Links, attributes, body, and where the rest of the inode is, which has no fixed size."""


def _complete(body: _Body, xattrs: int, rest: bytes) -> tuple[_Body, int]:
    """The body and the attributes of an inode with the rest of it."""
    if isinstance(body, Content):
        return Content(body.start, body.size, body.sparse, body.fragment, body.offset, rest), xattrs
    if xattrs == NONE:
        return rest, xattrs
    return rest[:-4], int.from_bytes(rest[-4:], "little")


def _read_folder(raw: bytes, is_extended: bool, _block_size: int) -> _Fields:
    if is_extended:
        links, size, block, parent, _, offset, xattrs = _EXTENDED_FOLDER.unpack_from(raw, _HEADER.size)
    else:
        block, links, size, offset, parent = _BASIC_FOLDER.unpack_from(raw, _HEADER.size)
        xattrs = NONE
    if not _LISTING_EXTRA <= size <= MAX_LISTING:
        raise SpliceError(f"the names in a folder have {size} bytes, not {_LISTING_EXTRA} to {MAX_LISTING}")
    return links, xattrs, Listing(block, offset, size - _LISTING_EXTRA, parent), None


def _read_file(raw: bytes, is_extended: bool, block_size: int) -> _Fields:
    if is_extended:
        fixed = _HEADER.size + _EXTENDED_FILE.size
        start, size, sparse, links, fragment, offset, xattrs = _EXTENDED_FILE.unpack_from(raw, _HEADER.size)
    else:
        fixed, sparse, links, xattrs = _HEADER.size + _BASIC_FILE.size, 0, 1, NONE
        start, fragment, offset, size = _BASIC_FILE.unpack_from(raw, _HEADER.size)
    blocks = size // block_size if fragment != NONE else -(-size // block_size)
    if blocks > _MAX_BLOCKS:
        raise SpliceError(f"a file has {size} bytes, which are too many")
    return links, xattrs, Content(start, size, sparse, fragment, offset, b""), range(fixed, fixed + 4 * blocks)


def _read_link(raw: bytes, is_extended: bool, _block_size: int) -> _Fields:
    links, size = _LINK.unpack_from(raw, _HEADER.size)
    if not 0 < size <= _MAX_TARGET:
        raise SpliceError(f"the target of a link has {size} bytes")
    fixed = _HEADER.size + _LINK.size
    # The attributes follow the target. Any value but NONE says so until they are read.
    return links, 0 if is_extended else NONE, b"", range(fixed, fixed + size + (4 if is_extended else 0))


def _read_device(raw: bytes, is_extended: bool, _block_size: int) -> _Fields:
    links, number, xattrs = _DEVICE.unpack_from(raw + _NO_XATTRS, _HEADER.size)
    return links, xattrs if is_extended else NONE, number, None


def _read_pipe(raw: bytes, is_extended: bool, _block_size: int) -> _Fields:
    links, xattrs = _PIPE.unpack_from(raw + _NO_XATTRS, _HEADER.size)
    return links, xattrs if is_extended else NONE, None, None


_READERS: dict[int, Callable[[bytes, bool, int], _Fields]] = {
    FOLDER: _read_folder,
    FILE: _read_file,
    LINK: _read_link,
    BLOCK_DEVICE: _read_device,
    CHARACTER_DEVICE: _read_device,
    PIPE: _read_pipe,
    SOCKET: _read_pipe,
}


def pack_inode(inode: Inode) -> bytes:
    """The bytes of an inode. It is of the extended kind only if it needs that."""
    is_extended, packed = _pack_body(inode)
    kind = inode.kind + (_EXTENDED if is_extended else 0)
    return _HEADER.pack(kind, inode.mode, inode.uid, inode.gid, inode.time, inode.number) + packed


def _pack_body(inode: Inode) -> tuple[bool, bytes]:
    has_xattrs, body = inode.xattrs != NONE, inode.body
    xattrs = struct.pack("<I", inode.xattrs) if has_xattrs else b""
    links = struct.pack("<I", inode.links)
    if isinstance(body, Listing):
        return _pack_folder(inode, body)
    if isinstance(body, Content):
        return _pack_file(inode, body)
    if isinstance(body, bytes):
        return has_xattrs, links + struct.pack("<I", len(body)) + body + xattrs
    return has_xattrs, links + (b"" if body is None else struct.pack("<I", body)) + xattrs


def _pack_folder(inode: Inode, body: Listing) -> tuple[bool, bytes]:
    size = body.size + _LISTING_EXTRA
    if size <= 0xFFFF and inode.xattrs == NONE and not body.index:
        return False, _BASIC_FOLDER.pack(body.block, inode.links, size, body.offset, body.parent)
    index = b"".join(_INDEX.pack(at, block, len(name) - 1) + name for at, block, name in body.index)
    fields = (inode.links, size, body.block, body.parent, len(body.index), body.offset, inode.xattrs)
    return True, _EXTENDED_FOLDER.pack(*fields) + index


def _pack_file(inode: Inode, body: Content) -> tuple[bool, bytes]:
    is_large = max(body.start, body.size) >= 1 << 32
    if inode.links == 1 and inode.xattrs == NONE and not body.sparse and not is_large:
        return False, _BASIC_FILE.pack(body.start, body.fragment, body.offset, body.size) + body.sizes
    fields = (body.start, body.size, body.sparse, inode.links, body.fragment, body.offset, inode.xattrs)
    return True, _EXTENDED_FILE.pack(*fields) + body.sizes
