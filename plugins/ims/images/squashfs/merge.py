"""The tree of an overlay: which folders change if a layer is put on a squashfs, and what is in them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ims.images.squashfs.folders import Entry
from ims.images.squashfs.image import Folder, Image
from ims.images.squashfs.inodes import CHARACTER_DEVICE, FOLDER, Inode
from ims.images.squashfs.superblock import SpliceError


@dataclass
class NewFile:
    """A file that is no folder. It has `links` names.

    `number` is 0 until a file of the layer gets one. A file of the base that has lost a name keeps its own.
    """

    inode: Inode
    is_old: bool = False
    links: int = 0
    number: int = 0
    place: int = 0


@dataclass
class NewFolder:
    """A folder with changes. Its names lead to unchanged files of the base, and to what is new.

    `number` is that of the folder that it replaces, or 0: unchanged subfolders refer to it. `is_old` says that its
    inode is that of the base.
    """

    inode: Inode
    parent: NewFolder | None
    number: int
    names: dict[bytes, Entry | NewFile | NewFolder]
    is_old: bool = False
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

    Raises SpliceError if an image is damaged.
    """

    def __init__(self, base: Image, layer: Image, opaque: Collection[bytes]) -> None:
        self._base, self._layer, self._opaque = base, layer, opaque
        self.folders = list[NewFolder]()
        """Each folder comes before the folders in it; the first is the root."""
        self.files = dict[int, NewFile]()
        """By the place of their inode in the layer."""
        self.relinked = dict[int, NewFile]()
        """Files of the base that have lost some of their names, by the place of their inode there."""
        self._lost = set[int]()
        self._pending, seen = [_Pending(b"", b"", layer.root, base.root, None)], set[int]()
        while self._pending:
            item = self._pending.pop()
            if item.entry.place in seen:
                raise SpliceError("a folder has several names")
            seen.add(item.entry.place)
            self._merge_folder(item)
        if self._lost:
            self._relink()

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
        """Notes which of the files that are removed or replaced may have other names."""
        for item, inode in self._base.walk(entry) if entry is not None else ():
            if inode.kind != FOLDER and inode.links > 1:
                self._lost.add(item.place)

    def _relink(self) -> None:
        """The other names of files that have lost some lead to new inodes, which count the rest."""
        for folder, name, entry in self._base.linked():
            if entry.place not in self._lost:
                continue
            parent = self._changed(folder)
            if parent is None or parent.names.get(name) != entry:
                continue
            file = self.relinked.get(entry.place)
            if file is None:
                file = self.relinked[entry.place] = NewFile(self._base.inode(entry), True, number=entry.number)
            file.links += 1
            parent.names[name] = file

    def _changed(self, folder: Folder) -> NewFolder | None:
        """A folder of the base as one with changes; None if it is gone."""
        found = self.folders[0]
        for part in folder.parts:
            below = found.names.get(part.name)
            if isinstance(below, Entry) and below == part.entry:
                inode = self._base.inode(below)
                below = NewFolder(inode, found, inode.number, dict(self._base.names(inode)), is_old=True)
                found.names[part.name] = below
                self.folders.append(below)
            if not isinstance(below, NewFolder):
                return None
            found = below
        return found


def is_whiteout(inode: Inode) -> bool:
    """Whether an inode says that the overlay removes a file."""
    return inode.kind == CHARACTER_DEVICE and inode.body == 0
