"""Compares two images by their lists of packages and files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from pydantic import BaseModel, ValidationError

from ims.errors import InputError
from ims.images.changes import FIRST
from ims.images.files import File
from ims.images.packages import Package

GROWN = 10
"""The number of folders in `grown`."""
DEPTH = 3
MAX_FOLDERS = 100_000
"""Bounds the memory of a comparison; files of further folders are not in `grown`."""

_Pair = tuple[File | None, File | None]


class PackageChange(BaseModel):
    """A package of one image or of both. Versions that are installed side by side are separated by commas."""

    name: str
    arch: str
    type: str
    before: str | None = None
    after: str | None = None


class PackageDifferences(BaseModel):
    """Packages that only one of two images contains, or that they contain in different versions."""

    added: list[PackageChange]
    removed: list[PackageChange]
    changed: list[PackageChange]


class FileChange(BaseModel):
    """A file of one image or of both, and its size in bytes."""

    path: str
    before: int | None = None
    after: int | None = None


class FileChanges(BaseModel):
    """The number of files, by how many bytes they make the image larger, and the first of them."""

    count: int = 0
    size: int = 0
    first: list[FileChange] = []

    def add(self, change: FileChange) -> None:
        """Add one file."""
        self.count += 1
        self.size += (change.after or 0) - (change.before or 0)
        if len(self.first) < FIRST:
            self.first.append(change)


class FolderGrowth(BaseModel):
    """By how many bytes the files of a folder and of its folders have grown."""

    path: str
    size: int


class FileDifferences(BaseModel):
    """Files that only one of two images has, or that differ in content, type, mode or owner.

    `grown` are the folders that have grown or shrunk most.
    """

    added: FileChanges
    removed: FileChanges
    changed: FileChanges
    grown: list[FolderGrowth] = []


def compare_packages(before: Iterable[Package], after: Iterable[Package]) -> PackageDifferences:
    """Compare the packages of two images."""
    left, right = _versions(before), _versions(after)
    found = PackageDifferences(added=[], removed=[], changed=[])
    for key in sorted(left.keys() | right.keys()):
        if left.get(key) != right.get(key):
            kind = found.added if key not in left else found.removed if key not in right else found.changed
            name, arch, manager = key
            kind.append(PackageChange(name=name, arch=arch, type=manager, before=left.get(key), after=right.get(key)))
    return found


def compare_files(before: Iterator[bytes], after: Iterator[bytes]) -> FileDifferences:
    """Compare the lists of the files of two images line by line, with one line of each in memory.

    Raises InputError if a line is invalid.
    """
    found = FileDifferences(added=FileChanges(), removed=FileChanges(), changed=FileChanges())
    sizes: Counter[str] = Counter()
    for old, new in _unequal(before, after):
        kind = found.added if old is None else found.removed if new is None else found.changed
        change = FileChange(path=_path(old, new), before=old and old.size, after=new and new.size)
        kind.add(change)
        _grow(sizes, change)
    found.grown = _most(sizes)
    return found


def _grow(sizes: Counter[str], change: FileChange) -> None:
    """Add the growth of a file to its folder, at most DEPTH levels below the root."""
    folder = "/".join(change.path.split("/")[:-1][: DEPTH + 1])
    if folder in sizes or len(sizes) < MAX_FOLDERS:
        sizes[folder or "/"] += (change.after or 0) - (change.before or 0)


def _most(sizes: Counter[str]) -> list[FolderGrowth]:
    largest = sorted(sizes.items(), key=lambda item: (-abs(item[1]), item[0]))[:GROWN]
    return [FolderGrowth(path=path, size=size) for path, size in largest if size]


def _path(*files: File | None) -> str:
    return next(file.path for file in files if file is not None)


def _versions(packages: Iterable[Package]) -> dict[tuple[str, str, str], str]:
    found = defaultdict(list)
    for package in packages:
        found[package.name, package.arch, package.type].append(package.version)
    return {key: ", ".join(sorted(versions)) for key, versions in found.items()}


def _unequal(before: Iterator[bytes], after: Iterator[bytes]) -> Iterator[_Pair]:
    """The files that differ, as pairs of the same path."""
    left, right = _Lines(before), _Lines(after)
    while left.line is not None or right.line is not None:
        order = 0 if left.line == right.line else _order(left.file, right.file)
        if left.line != right.line:
            yield (left.file if order <= 0 else None), (right.file if order >= 0 else None)
        if order <= 0:
            left.advance()
        if order >= 0:
            right.advance()


class _Lines:
    """A position in a list of files. `line` is None at the end. A line is parsed only when `file` is used."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.advance()

    def advance(self) -> None:
        self.line = next(self._lines, None)
        self._file: File | None = None

    @property
    def file(self) -> File | None:
        if self._file is None and self.line is not None:
            self._file = _parse(self.line)
        return self._file


def _parse(line: bytes) -> File:
    try:
        return File.model_validate_json(line)
    except ValidationError:
        raise InputError("a list of files has an invalid line") from None


def _order(old: File | None, new: File | None) -> int:
    """The order of two entries: below 0 if the old one comes first, above 0 if the new one does. None comes last."""
    if old is None or new is None:
        return (old is None) - (new is None)
    left, right = old.path.split("/"), new.path.split("/")
    return (left > right) - (left < right)
