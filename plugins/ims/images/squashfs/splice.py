"""Makes a changed squashfs from the bytes of the old one: the old data, those of a layer of changes, and new tables.

The layer is a squashfs of the upper folder of an overlay. The old tables stay as far as possible: new inodes and the
names in changed folders are added behind them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from ims.images.squashfs.codecs import BLOCK
from ims.images.squashfs.folders import Entry, write_names
from ims.images.squashfs.image import Image
from ims.images.squashfs.inodes import FOLDER, NONE, Content, Inode, Listing, pack_inode
from ims.images.squashfs.merge import Merge, NewFile, NewFolder
from ims.images.squashfs.metadata import TableWriter
from ims.images.squashfs.superblock import MAX_INODES, NO_TABLE, NO_XATTRS, SpliceError, Superblock
from ims.images.squashfs.xattrs import Set

_OVERLAY = b"trusted.overlay."
_MAX_OWNERS = 65535
_PAGE = 4096


@dataclass(frozen=True)
class Splice:
    """A new squashfs: `head`, the base from there to `kept`, the data of the layer in the range `layer`, and `tail`."""

    head: bytes
    kept: int
    layer: range
    tail: bytes

    @property
    def size(self) -> int:
        """The bytes of the new squashfs."""
        return self.kept + len(self.layer) + len(self.tail)


def splice(base: Image, layer: Image, opaque: Collection[bytes] = ()) -> Splice:
    """Puts a layer on a base. `opaque` are the paths of folders that hide those of the base, such as `var/lib`.

    Attributes of the overlay itself are left out. Raises SpliceError if an image is damaged or cannot be spliced.
    """
    if not base.codec.accepts(layer.codec) or base.block.block_size != layer.block.block_size:
        raise SpliceError("the changes were packed with another compression or block size")
    return _Splicer(base, layer).run(Merge(base, layer, opaque))


class _Splicer:
    def __init__(self, base: Image, layer: Image) -> None:
        self._base, self._layer = base, layer
        self._inodes = TableWriter(base.codec, base.inodes)
        self._folders = TableWriter(base.codec, base.folders)
        self._layer_owners = [owner for (owner,) in layer.owners.entries()]
        self._owners = [owner for (owner,) in base.owners.entries()]
        self._owner_numbers = {owner: number for number, owner in enumerate(self._owners)}
        self._layer_xattrs = list(layer.xattrs.sets())
        self._xattrs, self._xattr_numbers = list[Set](), dict[Set, int]()
        self._total = base.block.inodes
        self._exports = dict[int, tuple[int]]()

    def run(self, merged: Merge) -> Splice:
        for new in merged.folders:
            new.number = new.number or self._next_number()
        files = [*merged.relinked.values(), *merged.files.values()]
        for file in files:
            file.number = file.number or self._next_number()
        for file in files:
            file.place = self._write_inode(self._moved(file))
        for folder in reversed(merged.folders):
            self._write_folder(folder)
        return self._assemble(merged.folders[0])

    def _next_number(self) -> int:
        self._total += 1
        return self._total

    def _write_inode(self, inode: Inode) -> int:
        start, offset = self._inodes.write(pack_inode(inode))
        place = start << 16 | offset
        self._exports[inode.number - 1] = (place,)
        return place

    def _write_folder(self, folder: NewFolder) -> None:
        entries = [(name, _entry(item)) for name, item in sorted(folder.names.items())]
        written, index = write_names(entries)
        complete = self._folders.blocks
        start, offset = self._folders.write(written)
        listing = Listing(
            block=start,
            offset=offset,
            size=len(written),
            parent=folder.parent.number if folder.parent is not None else self._total + 1,
            index=tuple((at, self._folders.start_of(complete + (offset + at) // BLOCK), name) for at, name in index),
        )
        links = 2 + sum(entry.kind == FOLDER for _, entry in entries)
        own = folder.inode if folder.is_old else self._own(folder.inode)
        inode = replace(own, number=folder.number, links=links, body=listing)
        folder.place = self._write_inode(inode)

    def _moved(self, file: NewFile) -> Inode:
        """The inode that a file has in the new squashfs."""
        if file.is_old:
            return replace(file.inode, links=file.links)
        inode, body = self._own(file.inode), file.inode.body
        if isinstance(body, Content):
            body = replace(
                body,
                start=body.start + self._base.block.inode_start - self._layer.data_start if body.stored else 0,
                fragment=body.fragment + self._base.block.fragments if body.fragment != NONE else NONE,
            )
        return replace(inode, number=file.number, links=file.links, body=body)

    def _own(self, inode: Inode) -> Inode:
        """An inode of the layer with the owners and attributes of the new squashfs."""
        return replace(
            inode, uid=self._owner(inode.uid), gid=self._owner(inode.gid), xattrs=self._attributes(inode.xattrs)
        )

    def _owner(self, number: int) -> int:
        owner = self._layer_owners[number]
        if owner not in self._owner_numbers:
            self._owner_numbers[owner] = len(self._owners)
            self._owners.append(owner)
        return self._owner_numbers[owner]

    def _attributes(self, number: int) -> int:
        names = self._layer_xattrs[number] if number != NONE else ()
        kept = tuple(item for item in names if not item[0].startswith(_OVERLAY))
        if not kept:
            return NONE
        if kept not in self._xattr_numbers:
            self._xattr_numbers[kept] = self._base.xattrs.count + len(self._xattrs)
            self._xattrs.append(kept)
        return self._xattr_numbers[kept]

    def _assemble(self, root: NewFolder) -> Splice:
        base, layer = self._base, self._layer
        tail = _Tail(base.block.inode_start + layer.block.inode_start - layer.data_start)
        inode_start, folder_start = tail.add(self._inodes.finish()), tail.add(self._folders.finish())
        fragment_start = tail.add(*base.fragments.continued(self._layer_fragments(), {}, tail.end))
        export_start = self._add_exports(tail)
        owners = [(owner,) for owner in self._owners[base.block.ids :]]
        id_start = tail.add(*base.owners.continued(owners, {}, tail.end))
        block = replace(
            base.block,
            inodes=self._total,
            time=0,
            fragments=base.block.fragments + layer.block.fragments,
            ids=len(self._owners),
            root=root.place,
            inode_start=inode_start,
            folder_start=folder_start,
            fragment_start=fragment_start,
            export_start=export_start,
            id_start=id_start,
        )
        block = self._with_xattrs(block, tail)
        _check(block, base.xattrs.count + len(self._xattrs))
        data = range(layer.data_start, layer.block.inode_start)
        return Splice(block.pack(), base.block.inode_start, data, tail.padded())

    def _add_exports(self, tail: _Tail) -> int:
        if not self._base.is_exportable:
            return NO_TABLE
        added = [self._exports[number] for number in range(self._base.block.inodes, self._total)]
        return tail.add(*self._base.exports.continued(added, self._exports, tail.end))

    def _with_xattrs(self, block: Superblock, tail: _Tail) -> Superblock:
        if not self._base.xattrs.count and not self._xattrs:
            return replace(block, bytes_used=tail.end)
        written, header = self._base.xattrs.continued(self._xattrs, tail.end)
        tail.add(written)
        return replace(block, xattr_start=header, flags=block.flags & ~NO_XATTRS, bytes_used=tail.end)

    def _layer_fragments(self) -> list[tuple[int, ...]]:
        shift = self._base.block.inode_start - self._layer.data_start
        return [(start + shift, size, unused) for start, size, unused in self._layer.fragments.entries()]


class _Tail:
    """What follows the data of a squashfs, which end at `start`."""

    def __init__(self, start: int) -> None:
        self.end = start
        self._parts = list[bytes]()

    def add(self, blocks: bytes, index: bytes | None = None) -> int:
        """Adds a table; returns the position that the superblock has of it: of its index, or else of its blocks."""
        position = self.end + (len(blocks) if index is not None else 0)
        self._parts += [blocks, index or b""]
        self.end += len(blocks) + len(index or b"")
        return position

    def padded(self) -> bytes:
        """All tables. The size of the squashfs becomes a multiple of a page."""
        return b"".join((*self._parts, bytes(-self.end % _PAGE)))


def _entry(item: Entry | NewFile | NewFolder) -> Entry:
    if isinstance(item, Entry):
        return item
    return Entry(item.place, item.number, item.inode.kind)


def _check(block: Superblock, xattrs: int) -> None:
    """Raises SpliceError if unsquashfs would refuse the new squashfs."""
    if block.inodes > MAX_INODES or block.ids > min(_MAX_OWNERS, 2 * block.inodes):
        raise SpliceError(f"it would have {block.inodes} files and {block.ids} owners")
    if max(block.fragments, xattrs) > block.inodes:
        raise SpliceError(f"it would have {block.fragments} fragments and {xattrs} sets of attributes")
