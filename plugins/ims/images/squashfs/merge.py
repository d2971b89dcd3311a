"""The tree of an overlay: which folders change if a layer is put on a squashfs, and what is in them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ims.images.squashfs.folders import Entry
from ims.images.squashfs.image import Image
from ims.images.squashfs.inodes import CHARACTER_DEVICE, FOLDER, Inode
from ims.images.squashfs.superblock import SpliceError


@dataclass
class NewFile:
    """A file of the layer that is no folder. It has `links` names."""

    inode: Inode
    links: int = 0
    number: int = 0
    place: int = 0


@dataclass
class NewFolder:
    """A folder with changes. Its names lead to unchanged files of the base, and to what is new.

    `number` is that of the folder that it replaces, or 0: unchanged subfolders refer to it.
    """

    inode: Inode
    parent: NewFolder | None
    number: int
    names: dict[bytes, Entry | NewFile | NewFolder]
    place: int = 0


@dataclass(frozen=True)
class _Pending:
    """A folder of the layer, with the name that it gets in `parent`; `below` is what the base has there."""

    path: bytes
    name: bytes
    entry: Entry
    below: Entry | None
    parent: NewFolder | None


class Merge:
    """Puts a layer on a base. `opaque` are the paths of folders that hide those of the base, such as `var/lib`.

    Raises SpliceError if an image is damaged, or if a file with several names loses one of them.
    """

    def __init__(self, base: Image, layer: Image, opaque: Collection[bytes]) -> None:
        self._base, self._layer, self._opaque = base, layer, opaque
        self.folders = list[NewFolder]()
        """Each folder comes before the folders in it; the first is the root."""
        self.files = dict[int, NewFile]()
        """By the place of their inode in the layer."""
        self._pending, seen = [_Pending(b"", b"", layer.root, base.root, None)], set[int]()
        while self._pending:
            item = self._pending.pop()
            if item.entry.place in seen:
                raise SpliceError("a folder has several names")
            seen.add(item.entry.place)
            self._merge_folder(item)

    def _merge_folder(self, item: _Pending) -> None:
        folder = self._new_folder(item)
        for name, entry in self._layer.names(folder.inode):
            below = folder.names.pop(name, None)
            assert below is None or isinstance(below, Entry)
            if entry.kind == FOLDER:
                path = item.path + b"/" + name if item.path else name
                self._pending.append(_Pending(path, name, entry, below, folder))
                continue
            self._remove(below)
            if (file := self._file(entry)) is not None:
                folder.names[name] = file
                file.links += 1

    def _new_folder(self, item: _Pending) -> NewFolder:
        inode, number, names = self._layer.inode(item.entry), 0, dict[bytes, Entry | NewFile | NewFolder]()
        if item.below is not None and item.below.kind == FOLDER:
            old = self._base.inode(item.below)
            number = old.number
            names.update(self._base.names(old))
        if item.path in self._opaque or (item.below is not None and item.below.kind != FOLDER):
            self._remove(item.below)
            names.clear()
        folder = NewFolder(inode, item.parent, number, names)
        if item.parent is not None:
            item.parent.names[item.name] = folder
        self.folders.append(folder)
        return folder

    def _file(self, entry: Entry) -> NewFile | None:
        """A file of the layer; None if it only says that a file was removed."""
        if (known := self.files.get(entry.place)) is not None:
            return known
        inode = self._layer.inode(entry)
        if is_whiteout(inode):
            return None
        self.files[entry.place] = NewFile(inode)
        return self.files[entry.place]

    def _remove(self, entry: Entry | None) -> None:
        """Checks that what is removed or replaced has no other names, which would have to change as well."""
        for _, inode in self._base.walk(entry) if entry is not None else ():
            if inode.kind != FOLDER and inode.links > 1:
                raise SpliceError("a file that has several names lost one of them")


def is_whiteout(inode: Inode) -> bool:
    """Whether an inode says that the overlay removes a file."""
    return inode.kind == CHARACTER_DEVICE and inode.body == 0
