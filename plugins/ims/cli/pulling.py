"""Download the files of an image, verify them, and resume interrupted downloads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ims.cli.output import clean
from ims.errors import InputError
from ims.storage.digests import digest_file
from ims.storage.manifest import MAX_BYTES, Artifact, Manifest, read_manifest
from ims.storage.objects import ObjectName, ObjectStore


def pull(store: ObjectStore, link: str, folder: Path) -> None:
    """Download the files that the manifest at `link` lists, and the manifest last.

    Raises ImsError if S3 or the manifest is at fault, and OSError if the folder cannot be written.
    """
    name = ObjectName.parse(link)
    body = store.read_bytes(name, limit=MAX_BYTES)
    files = _files(read_manifest(body, name), _file_name(name))
    folder.mkdir(parents=True, exist_ok=True)
    for file, artifact in files.items():
        _fetch(store, artifact, folder / file)
    (folder / _file_name(name)).write_bytes(body)


def _files(manifest: Manifest, manifest_name: str) -> dict[str, Artifact]:
    """Return the artifacts by file name. Raises InputError if two of them have the same file name."""
    files: dict[str, Artifact] = {}
    for artifact in manifest.artifacts:
        name = _file_name(ObjectName.parse(artifact.link.path))
        if name in (*files, manifest_name):
            raise InputError(f"the manifest has two files with the name {name}", "Store them under different names")
        files[name] = artifact
    return files


def _file_name(name: ObjectName) -> str:
    last = PurePosixPath(name.key).name
    if last in ("", "..") or not last.isprintable():
        raise InputError(f"{name} does not end with a file name", "Store the artifact under another name")
    return last


def _fetch(store: ObjectStore, artifact: Artifact, path: Path) -> None:
    name = ObjectName.parse(artifact.link.path)
    if path.exists() and digest_file(path).md5 == artifact.md5:
        print(f"{clean(str(path))} already exists, verified")
        return
    with _bar(path.name, store.stat(name).size) as bar:
        size = 0

        def seen(count: int) -> None:
            nonlocal size
            size += count
            bar.update(bar.task_ids[0], completed=size)

        found = store.resume(name, path, artifact.md5, seen)
    print(f"{clean(str(path))} {found.size} bytes, verified")


@contextmanager
def _bar(title: str, total: int) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(title, total=total)
        yield progress
