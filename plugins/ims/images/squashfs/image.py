"""The tables of a squashfs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ims.images.squashfs.codecs import read_codec
from ims.images.squashfs.folders import Entry, read_names
from ims.images.squashfs.inodes import FOLDER, NONE, Content, Inode, read_inode
from ims.images.squashfs.lookup import LookupTable
from ims.images.squashfs.metadata import Table
from ims.images.squashfs.superblock import NO_TABLE, Reader, SpliceError, read_superblock
from ims.images.squashfs.xattrs import Xattrs

FRAGMENT = struct.Struct("<QII")
EXPORT = struct.Struct("<Q")
OWNER = struct.Struct("<I")
_UNCOMPRESSED = 0x1000000
"""The bit of the size of a block that says that it is not compressed."""


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """A folder with its name and the folder that contains it. The root has neither."""

    entry: Entry
    name: bytes = b""
    parent: Folder | None = None

    @property
    def parts(self) -> list[Folder]:
        """This folder and those that contain it, except for the root, from the top down."""
        found, folder = list[Folder](), self
        while folder.parent is not None:
            found.append(folder)
            folder = folder.parent
        return found[::-1]

    @property
    def path(self) -> bytes:
        """The path, relative to the root."""
        return b"/".join(folder.name for folder in self.parts)


class Linked(NamedTuple):
    """A name of a file that has several, with the folder that it is in."""

    folder: Folder
    name: bytes
    entry: Entry


class Image:
    """A squashfs. Every method may raise SpliceError."""

    def __init__(self, reader: Reader) -> None:
        self.block = block = read_superblock(reader)
        self.codec, self.data_start = read_codec(reader, block)
        self.fragments = LookupTable(reader, self.codec, FRAGMENT, block.fragments, block.fragment_start)
        self.is_exportable = block.export_start != NO_TABLE
        """Whether a table leads from the number of a file to its inode."""
        exports = (block.inodes, block.export_start) if self.is_exportable else (0, block.id_start)
        self.exports = LookupTable(reader, self.codec, EXPORT, *exports)
        self.owners = LookupTable(reader, self.codec, OWNER, block.ids, block.id_start)
        self.xattrs = Xattrs(reader, self.codec, block)
        end = self._end_of_folders()
        self.inodes = Table(reader.read(block.inode_start, block.folder_start - block.inode_start), self.codec)
        self.folders = Table(reader.read(block.folder_start, end - block.folder_start), self.codec)

    @property
    def root(self) -> Entry:
        """The root folder."""
        inode = self.inode(Entry(self.block.root, 0, FOLDER))
        return Entry(self.block.root, inode.number, FOLDER)

    def inode(self, entry: Entry) -> Inode:
        """The inode of a file, which must be what its folder says."""
        inode = read_inode(self.inodes, entry.place, self.block.block_size)
        if inode.kind != entry.kind or (entry.number and inode.number != entry.number):
            raise SpliceError("a folder contradicts the inode of a file in it")
        if not 0 < inode.number <= self.block.inodes or max(inode.uid, inode.gid) >= self.block.ids:
            raise SpliceError("an inode has an invalid number or owner")
        if inode.xattrs != NONE and inode.xattrs >= self.xattrs.count:
            raise SpliceError("an inode has invalid attributes")
        if isinstance(inode.body, Content):
            self._check_content(inode.body)
        return inode

    def names(self, folder: Inode) -> Iterator[tuple[bytes, Entry]]:
        """The names in a folder, sorted."""
        listing = folder.listing
        if listing.size:
            yield from read_names(self.folders.read(listing.block, listing.offset, listing.size))

    def walk(self, top: Entry) -> Iterator[tuple[Entry, Inode]]:
        """A file and, if it is a folder, everything in it. A file with several names comes once."""
        pending, seen = [top], {top.place}
        while pending:
            entry = pending.pop()
            inode = self.inode(entry)
            yield entry, inode
            for _, below in self.names(inode) if entry.kind == FOLDER else ():
                if below.place not in seen:
                    seen.add(below.place)
                    if len(seen) > self.block.inodes:
                        raise SpliceError(f"it has more files than the {self.block.inodes} that it states")
                    pending.append(below)
                elif below.kind == FOLDER:
                    raise SpliceError("a folder has several names")

    def all_names(self) -> Iterator[tuple[Folder, bytes, Entry, Inode]]:
        """The names of all files, each with its folder. A file with several names occurs once for each of them."""
        pending, seen = [(Folder(self.root), self.inode(self.root))], {self.root.place}
        while pending:
            folder, inode = pending.pop()
            for name, entry in self.names(inode):
                found = self.inode(entry)
                yield folder, name, entry, found
                if entry.place not in seen:
                    seen.add(entry.place)
                    if len(seen) > self.block.inodes:
                        raise SpliceError(f"it has more files than the {self.block.inodes} that it states")
                    if entry.kind == FOLDER:
                        pending.append((Folder(entry, name, folder), found))
                elif entry.kind == FOLDER:
                    raise SpliceError("a folder has several names")

    def linked(self) -> Iterator[Linked]:
        """All names of the files that have several."""
        return (Linked(folder, name, entry) for folder, name, entry, inode in self.all_names() if is_linked(inode))

    def _check_content(self, content: Content) -> None:
        if content.fragment != NONE and content.fragment >= self.block.fragments:
            raise SpliceError("a file refers to a fragment that does not exist")
        if (size := content.stored) and not (
            self.data_start <= content.start <= content.start + size <= self.block.inode_start
        ):
            raise SpliceError("the content of a file is outside of the data")

    def _end_of_folders(self) -> int:
        """Where the table of folders ends. Raises SpliceError if two tables overlap or something is between them."""
        found = [self.fragments] if self.block.fragments else []
        found += [self.exports, self.owners] if self.is_exportable else [self.owners]
        starts = [*(table.start for table in found[1:]), self.xattrs.start]
        if found[0].start < self.block.folder_start or [table.end for table in found] != starts:
            raise SpliceError("its tables overlap, or something is between them")
        return found[0].start


def is_linked(inode: Inode) -> bool:
    """Whether this is a file with several names, and not a folder."""
    return inode.kind != FOLDER and inode.links > 1


def stored_fragment(fragment: tuple[int, ...]) -> int:
    """The bytes of a fragment in the squashfs."""
    return fragment[1] & ~_UNCOMPRESSED
