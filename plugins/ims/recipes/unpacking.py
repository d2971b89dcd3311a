"""Unpacks gzip tar archives whose content is not trusted. All limits are checked before a file is written.

Links are never followed, neither here nor by those who read the unpacked files. Below the overlay folder of a recipe,
a link is a path of the image and may be absolute; no other link leads there.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import cast

from ims.errors import InputError
from ims.recipes import overlay
from ims.recipes.litter import is_litter
from ims.recipes.overlay import Attributes

MAX_DEPTH = 100
"""How many folders may be nested."""
MAX_PATH = 2048
"""Bytes of a path. A build adds the paths of the workspace and of the image root; the kernel accepts 4096."""
MAX_NAME = 255
"""Bytes of a file name. The kernel accepts no more."""
MAX_HEADERS = 64 * 1024
"""Bytes of the headers of one entry. tarfile keeps them in memory, and recurses for each of them."""
_OVERHEAD = 4096  # bytes that an archive needs for the headers and the padding of an entry
MAX_PROBLEMS = 20
"""How many bad entries are named before the rest of the archive is not read."""
_MAX_FOLLOWED = 40
"""How many links the kernel follows on the way to a file."""
_MAX_STEPS = 100_000  # parts of paths that may be read to find out where the links of an archive lead
_SHOWN = 200
_HINT = "Pack it again with GNU tar, with regular files, folders and links only"
# What tarfile raises for damaged and hostile archives.
_MALFORMED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, LookupError, OverflowError)


class BadEntriesError(InputError):
    """Entries of an archive cannot be unpacked. `problems` has one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems), _HINT)
        self.problems = list(problems)


def extract(archive: Path, folder: Path, max_bytes: int, max_files: int, *, is_recipe: bool) -> list[str]:
    """Extract an archive into an empty folder; returns the names of the litter that was left out.

    Only a recipe has an overlay. Raises BadEntriesError with all bad entries, and InputError if the archive is damaged
    or too large, with the entry, the value and the limit.
    """
    target = _Target(folder, max_bytes, max_files, is_recipe=is_recipe)
    try:
        with gzip.open(archive) as unzipped:
            stream = _Stream(unzipped, max_bytes + max_files * _OVERHEAD)
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                while (member := tar.next()) is not None:
                    stream.allow(max(member.size, 0) + tarfile.RECORDSIZE)
                    target.add(tar, member)
                    stream.allow(MAX_HEADERS)
            stream.allow(max_bytes + max_files * _OVERHEAD)
            while stream.read(1 << 16):  # gzip verifies its checksum at the end
                pass
    except (*_MALFORMED, RecursionError) as error:
        raise InputError(f"the archive is not a gzip tar archive: {error}", "Make it with tar -czf") from None
    target.finish()
    return [str(name) for name in target.left_out]


class _Stream(io.RawIOBase):
    """The uncompressed data of an archive: limited in total, and between two calls of `allow`."""

    def __init__(self, unzipped: gzip.GzipFile, limit: int) -> None:
        self._unzipped, self._limit, self._rest, self._allowed = unzipped, limit, limit, MAX_HEADERS

    def allow(self, size: int) -> None:
        """Allow to read so many bytes before the next call."""
        self._allowed = size

    def read(self, size: int = -1) -> bytes:
        data = self._unzipped.read(size)
        self._rest -= len(data)
        self._allowed -= len(data) or tarfile.BLOCKSIZE  # tarfile may ask for data forever after the end
        if self._rest < 0:
            raise InputError(f"the archive unpacks to more than {self._limit} bytes with the headers of its entries")
        if self._allowed < 0:
            raise InputError(f"the headers of an entry of the archive are larger than {MAX_HEADERS} bytes", _HINT)
        return data


class _Target:
    """The folder that an archive is unpacked to, and what it has so far."""

    def __init__(self, folder: Path, max_bytes: int, max_files: int, *, is_recipe: bool) -> None:
        self._folder, self._max_bytes, self._max_files = folder, max_bytes, max_files
        self._is_recipe = is_recipe
        self._bytes = self._steps = 0
        self._folders: set[PurePosixPath] = {PurePosixPath()}
        self._others: set[PurePosixPath] = set()
        self._links: dict[PurePosixPath, tarfile.TarInfo] = {}
        self._attributes: dict[PurePosixPath, Attributes] = {}
        self._problems: list[str] = []
        self.left_out: list[PurePosixPath] = []

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Unpack an entry. Symbolic links come last, so a name without `..` cannot lead out of the folder."""
        with self._noted(member):
            name = _checked_name(member.name)
            if self._is_recipe and str(name) == overlay.ATTRIBUTES:
                raise ValueError("the name is reserved")
            self._count_bytes(member)
            if is_litter(name):
                self.left_out.append(name)
                self._count_files(name)
            elif member.isdir():
                self._add_folder(name)
                self._set_mode(name, member)
            else:
                self._reserve(name)
                self._add_other(name, tar, member)

    def finish(self) -> None:
        """Make the symbolic links, and note the attributes that the unpacked files cannot have.

        Raises BadEntriesError if an entry was bad.
        """
        for name, member in self._links.items():
            with self._noted(member):
                (self._folder / name).symlink_to(self._checked_target(name, member.linkname))
        if self._problems:
            raise BadEntriesError(self._problems)
        overlay.write_attributes(self._folder, self._attributes)

    @contextmanager
    def _noted(self, member: tarfile.TarInfo) -> Iterator[None]:
        """Note why an entry is bad, so that the others are checked, too. Raises BadEntriesError if there are many."""
        try:
            yield
        except (ValueError, OverflowError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            self._problems.append(f"the archive's entry {member.name[:_SHOWN]!r} cannot be unpacked safely: {reason}")
        if len(self._problems) >= MAX_PROBLEMS:
            raise BadEntriesError(self._problems)

    def _add_other(self, name: PurePosixPath, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.issym():
            self._links[name] = member
        elif member.islnk():
            self._add_hard_link(name, member)
        else:
            self._add_file(name, tar, member)

    def _is_overlay(self, name: PurePosixPath) -> bool:
        return self._is_recipe and overlay.is_overlay(name)

    def _checked_target(self, name: PurePosixPath, text: str) -> str:
        """The target of a link. Raises ValueError if somebody who follows the link could leave the archive.

        No parent of a link is a link, and a normalized target has `..` only at its start. So the text of the target
        decides where the link leads.
        """
        _check_length(text, "target")
        target = posixpath.normpath(text)
        if target.startswith("/") and self._is_overlay(name):
            return text
        if target.startswith("/") or posixpath.normpath(name.parent / target).split("/")[0] == "..":
            raise ValueError(f"it leads out of the archive, to {text[:_SHOWN]!r}")
        if not self._is_overlay(name) and (image_link := self._image_link(name)) is not None:
            raise ValueError(f"it leads to {str(image_link)[:_SHOWN]!r}, a link of the image")
        return target

    def _image_link(self, link: PurePosixPath) -> PurePosixPath | None:
        """The link of the overlay that a link outside of it leads to, if any. A link in a circle leads nowhere."""
        place, parts = PurePosixPath(), [*reversed(link.parts)]
        followed = 0
        while parts and followed <= _MAX_FOLLOWED:
            if (steps := self._steps) >= _MAX_STEPS:
                raise ValueError("the links of the archive are too many and too long")
            self._steps, part = steps + 1, parts.pop()
            place = place.parent if part == ".." else place / part
            if (found := self._links.get(place)) is not None:
                if self._is_overlay(place):
                    return place
                followed += 1
                parts += reversed(PurePosixPath(posixpath.normpath(found.linkname)).parts)
                place = place.parent
        return None

    def _count_bytes(self, member: tarfile.TarInfo) -> None:
        if member.size < 0:
            raise ValueError(f"its size is {member.size}")
        self._bytes += member.size
        if self._bytes > self._max_bytes:
            reason = f"the archive unpacks to more than {self._max_bytes} bytes"
            raise InputError(
                f"{reason}: with {member.name[:_SHOWN]!r} they are {self._bytes}",
                "Make it smaller, or raise IMS_RECIPE_MAX_MIB",
            )

    def _reserve(self, name: PurePosixPath) -> None:
        """Count a new entry that is not a folder, and make its folder."""
        if name in self._folders or name in self._others:
            raise ValueError("the archive has it twice")
        self._add_folder(name.parent)
        self._others.add(name)
        self._count_files(name)

    def _add_folder(self, name: PurePosixPath) -> None:
        """Make a folder and those that contain it, unless they exist."""
        for folder in reversed((name, *name.parents)):
            if folder in self._others:
                raise ValueError(f"{str(folder)[:_SHOWN]!r} is not a folder")
            if folder not in self._folders:
                (self._folder / folder).mkdir()
                (self._folder / folder).chmod(overlay.implicit_mode(folder) if self._is_recipe else 0o755)
                self._folders.add(folder)
                self._count_files(folder)

    def _set_mode(self, name: PurePosixPath, member: tarfile.TarInfo) -> None:
        """Give a file or folder of the overlay its mode. Others are for programs of the build only."""
        path, mode = self._folder / name, member.mode & 0o7777
        if not self._is_overlay(name):
            path.chmod((mode & 0o755) | 0o600 if member.isreg() else 0o755)
            return
        usable = mode | (0o600 if member.isreg() else 0o700)
        path.chmod(usable)
        capability = overlay.capability_of(member)
        if capability or mode != usable:
            self._attributes[name] = Attributes(mode, capability)
        else:
            self._attributes.pop(name, None)  # a folder may have several entries; the last one counts

    def _count_files(self, name: PurePosixPath) -> None:
        found = len(self._folders) - 1 + len(self._others) + len(self.left_out)
        if found > self._max_files:
            raise InputError(
                f"the archive has more than {self._max_files} files: {str(name)[:_SHOWN]!r} is number {found}",
                "Make it smaller, or raise IMS_RECIPE_MAX_FILES",
            )

    def _add_hard_link(self, name: PurePosixPath, member: tarfile.TarInfo) -> None:
        target = _checked_name(member.linkname)
        if (link := self._links.get(target)) is not None:
            self._links[name] = member.replace(linkname=link.linkname, deep=False)
        elif target in self._others:
            (self._folder / name).hardlink_to(self._folder / target)
        else:
            raise ValueError(f"it is a hard link to {str(target)[:_SHOWN]!r}, which is not a file before it")

    def _add_file(self, name: PurePosixPath, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.issparse():
            _check_map(member)
        source = tar.extractfile(member) if member.isreg() else None
        if source is None:
            raise ValueError("it is neither a file nor a folder nor a link")
        path = self._folder / name
        with path.open("xb") as file:
            shutil.copyfileobj(source, file)
        self._set_mode(name, member)
        os.utime(path, (member.mtime, member.mtime))


def _check_map(member: tarfile.TarInfo) -> None:
    """Raises ValueError unless the parts of a sparse file follow each other and end within its size."""
    end = 0
    for offset, size in cast("list[tuple[int, int]]", member.sparse):
        if size == 0:  # an unused part of the map
            continue
        if offset < end or size < 0 or offset + size > member.size:
            raise ValueError(f"its part of {size} bytes at {offset} does not fit to its size of {member.size}")
        end = offset + size


def _checked_name(name: str) -> PurePosixPath:
    """The name of an entry as a path in the archive. Raises ValueError if it leads out of it or is too long."""
    path = PurePosixPath(name)
    if name.startswith("/") or ".." in path.parts:
        raise ValueError(f"the name {name[:_SHOWN]!r} leads out of the archive")
    _check_length(name, "name")
    if len(path.parts) > MAX_DEPTH + 1:
        raise ValueError(f"it is in {len(path.parts) - 1} nested folders, more than {MAX_DEPTH}")
    if (longest := max((len(os.fsencode(part)) for part in path.parts), default=0)) > MAX_NAME:
        raise ValueError(f"a part of its name has {longest} bytes, more than {MAX_NAME}")
    return path


def _check_length(text: str, what: str) -> None:
    if (size := len(os.fsencode(text))) > MAX_PATH:
        raise ValueError(f"its {what} has {size} bytes, more than {MAX_PATH}")
