"""Images in folders, as `ims images pull` writes them: their files, and what other images can use of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from ims.errors import InputError
from ims.storage.delta import MAX_SIZE, Range, shared
from ims.storage.digests import CHUNK, digest_file
from ims.storage.manifest import MANIFEST_NAME, MAX_BYTES, Artifact, Manifest, read_manifest
from ims.storage.objects import ObjectName, ObjectStore, Reader

_MANIFEST_NAMES = (MANIFEST_NAME, "manifest.json")
"""The names that this service and IMS give to manifests."""


def files_of(manifest: Manifest, manifest_name: str) -> dict[str, Artifact]:
    """Returns the artifacts by file name. Raises InputError if two of them have the same file name."""
    files: dict[str, Artifact] = {}
    for artifact in manifest.artifacts:
        name = file_name(ObjectName.parse(artifact.link.path))
        if name in (*files, manifest_name):
            raise InputError(f"the manifest has two files with the name {name}", "Store them under different names")
        files[name] = artifact
    return files


def file_name(name: ObjectName) -> str:
    """Returns the name of the file with the content of an object. Raises InputError if the key ends with none."""
    last = PurePosixPath(name.key).name
    if last in ("", "..") or not last.isprintable():
        raise InputError(f"{name} does not end with a file name", "Store the artifact under another name")
    return last


@dataclass(frozen=True)
class LocalBase:
    """A file that has some ranges of an artifact."""

    path: Path
    ranges: list[Range]

    def reader(self, store: ObjectStore, name: ObjectName, size: int, on_fetched: Callable[[int], object]) -> Reader:
        """Reads the ranges from the file and the rest of the `size` bytes from S3; `on_fetched` counts the rest."""

        def read(start: int) -> Iterator[bytes]:
            for item in self.ranges:
                yield from fetch(start, item.offset)
                start = max(start, item.offset)
                yield from _read(self.path, item.source_offset + start - item.offset, item.source_end)
                start = max(start, item.end)
            yield from fetch(start, size)

        def fetch(start: int, end: int) -> Iterator[bytes]:
            for chunk in store.read(name, start, end) if start < end else ():
                on_fetched(len(chunk))
                yield chunk

        return read


class LocalImage:
    """A folder with the files of an image and its manifest, which may be wrong."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError if the folder has no manifest, or one that is damaged."""
        self._folder = folder
        self._files = _files_in(folder)
        self._md5_of = cache(lambda path: digest_file(path).md5)

    def base_of(self, artifact: Artifact, size: int) -> LocalBase | None:
        """Returns the file that has most bytes of an artifact, or None if the manifests know of no such file.

        Raises InputError if the file has another content than the manifest of the folder says, or if it cannot be read.
        """
        if not artifact.md5 or (artifact.delta is not None and artifact.delta.size != size):
            raise InputError("its manifest lacks its checksum, or says another size than S3")
        known = _sources(artifact, size)
        found = [(name, ranges) for name, item in self._files.items() if (ranges := _common(known, item))]
        if not found:
            return None
        name, ranges = max(found, key=lambda item: sum(part.length for part in item[1]))
        path = self._folder / name
        _check(path, self._files[name].md5, max(item.source_end for item in ranges), self._md5_of)
        return LocalBase(path, ranges)


def _files_in(folder: Path) -> dict[str, Artifact]:
    for name in _MANIFEST_NAMES:
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise InputError(f"{path} is larger than {MAX_BYTES} bytes")
            return files_of(read_manifest(data, path), name)
    raise InputError(
        f"{folder} has no {_MANIFEST_NAMES[0]}", "Name a folder with an image that `ims images pull` downloaded"
    )


def _sources(artifact: Artifact, size: int) -> dict[str, list[Range]]:
    """Where an artifact has bytes of which objects, by their MD5. The first object is the artifact itself."""
    found = {artifact.md5.lower(): [Range(offset=0, length=size, source_offset=0)]} if size else {}
    for base in artifact.delta.bases if artifact.delta is not None else ():
        found.setdefault(base.md5, base.ranges)
    return found


def _common(known: dict[str, list[Range]], other: Artifact) -> list[Range]:
    """The most that an artifact with the sources `known` has of another one."""
    others = _sources(other, MAX_SIZE) if other.md5 else {}
    found = [shared(ranges, others[md5]) for md5, ranges in known.items() if md5 in others]
    return max(found, key=lambda ranges: sum(item.length for item in ranges), default=[])


def _check(path: Path, md5: str, size: int, md5_of: Callable[[Path], str]) -> None:
    """Raises InputError unless a file has the MD5 and at least the size."""
    try:
        is_right = path.is_file() and path.stat().st_size >= size and md5_of(path) == md5.lower()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if not is_right:
        raise InputError(f"{path} is not the file that the manifest beside it describes")


def _read(path: Path, start: int, end: int) -> Iterator[bytes]:
    """Yields a part of a file. Raises InputError if the file is shorter."""
    with path.open("rb") as file:
        file.seek(start)
        while start < end:
            if not (chunk := file.read(min(CHUNK, end - start))):
                raise InputError(f"{path} changed while it was read")
            start += len(chunk)
            yield chunk
