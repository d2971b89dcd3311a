"""Download the files of an image, or the changes that a job made to it as a script. Verify what was downloaded."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ims.cli.output import clean, say
from ims.errors import InputError, PermanentError
from ims.files import replacing
from ims.recipes.overlay import ATTRIBUTES
from ims.recipes.unpacking import extract
from ims.storage.digests import digest_file
from ims.storage.folder import LocalBase, LocalImage, file_name, files_of
from ims.storage.manifest import CAPTURE, MAX_BYTES, ROOTFS, Artifact, read_manifest
from ims.storage.objects import ObjectName, ObjectStore

SCRIPT = "customize.sh"
PLAYBOOK = "site.yml"
NOT_CAPTURED = "NOT-CAPTURED.txt"
MAX_ARCHIVE = 256 * 1024**2
"""Bytes of the archive, and of its content. A job writes about half of it."""
MAX_FILES = 250_000
MAX_NOTES = 8 * 1024**2
MAX_SCRIPT = 8192
"""How long a script of a job may be. A playbook runs a longer one."""
_PLAIN_NAME = re.compile(r"\w[\w.+-]*")


def pull(store: ObjectStore, link: str, folder: Path, base: Path | None = None) -> None:
    """Download the files that the manifest at `link` lists, and the manifest last.

    Bytes that the folder `base` has in another image are copied from there.
    Raises ImsError if S3 or a manifest is at fault, and OSError if the folder cannot be written.
    """
    local = LocalImage(base) if base is not None else None
    name = ObjectName.parse(link)
    body = store.read_bytes(name, limit=MAX_BYTES)
    files = files_of(read_manifest(body, name), file_name(name))
    folder.mkdir(parents=True, exist_ok=True)
    for file, artifact in files.items():
        _fetch(store, artifact, folder / file, local)
    with replacing(folder / file_name(name)) as manifest:
        manifest.write_bytes(body)


def _fetch(store: ObjectStore, artifact: Artifact, path: Path, local: LocalImage | None) -> None:
    name = ObjectName.parse(artifact.link.path)
    if path.exists() and digest_file(path).md5 == artifact.md5.lower():
        print(f"{clean(str(path))} already exists, verified")
        return
    size = store.stat(name).size
    try:
        if local is not None and (base := local.base_of(artifact, size)) is not None:
            _fetch_rest(store, artifact, path, size, base)
            return
        reason = f"{artifact.link.path} shares no bytes with the files of the base, according to the manifests"
    except InputError as error:
        reason = error.reason
    if local is not None and artifact.type == ROOTFS:
        say(f"{path} is downloaded in full: {reason}")
    with _bar(path.name, size) as seen:
        store.resume(name, path, artifact.md5, seen)
    print(f"{clean(str(path))} {size} bytes, verified")


def _fetch_rest(store: ObjectStore, artifact: Artifact, path: Path, size: int, base: LocalBase) -> None:
    """Download what a local file lacks. Raises InputError if the result is not the artifact."""
    fetched: list[int] = []
    name = ObjectName.parse(artifact.link.path)
    with _bar(path.name, size) as seen:
        store.resume(name, path, artifact.md5, seen, base.reader(store, name, size, fetched.append))
    print(f"{clean(str(path))} {size} bytes, {sum(fetched)} of them downloaded, verified")


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar, and yield a function that advances it by a number of bytes."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield partial(progress.advance, task)


def target_folder(image: dict[str, Any], given: Path | None) -> Path:
    """Return the folder to write to: by default, one with the name of the image.

    Raises InputError if the name is not that of a folder, or if the folder is not empty.
    """
    if given is None and not _PLAIN_NAME.fullmatch(str(image["name"])):
        raise InputError(f"the name {image['name']!r} of the image cannot be that of a folder", "Give a folder")
    folder = given or Path(image["name"])
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise InputError(f"{folder} already exists and is not an empty folder", "Remove it, or give another folder")
    return folder


def capture(store: ObjectStore, image: dict[str, Any], folder: Path) -> None:
    """Write the script, the files and the list of what is missing to a new or empty folder.

    Raises ImsError if the image has no recorded changes, or if they are damaged. Then nothing is left.
    """
    name = ObjectName.parse(image["link"]["path"])
    found = read_manifest(store.read_bytes(name, limit=MAX_BYTES), name).of_type(CAPTURE)
    if not found:
        raise PermanentError(
            f"no changes are recorded for the image {image['id']}",
            "Name an image that a job of type customize made with this version of the service",
        )
    link = ObjectName.parse(found[0].link.path)
    if (size := store.stat(link).size) > MAX_ARCHIVE:
        raise InputError(f"{link} has {size} bytes, more than {MAX_ARCHIVE}")
    with TemporaryDirectory() as temporary:
        archive = Path(temporary) / "capture.tar.gz"
        store.resume(link, archive, found[0].md5)
        _unpack(archive, folder)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the archive, which is not trusted, to a folder that only its owner can enter."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    try:
        extract(archive, folder, MAX_ARCHIVE, MAX_FILES, is_recipe=True)
        for name in (SCRIPT, NOT_CAPTURED):
            if (folder / name).is_symlink() or not (folder / name).is_file():
                raise InputError(f"the recorded changes have no file {name}")
        (folder / ATTRIBUTES).unlink(missing_ok=True)
        _clear_set_id_bits(folder)
    except BaseException:
        shutil.rmtree(folder)
        raise


def _clear_set_id_bits(folder: Path) -> None:
    """A program of the image must not get the rights of the user who looks at it. The script sets the bits."""
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(mode & 0o1777)


def show(image: dict[str, Any], folder: Path) -> None:
    """Print what the script does not repeat, and the command that runs it."""
    with (folder / NOT_CAPTURED).open(errors="replace") as notes:
        for line in notes.read(MAX_NOTES).splitlines():
            print(clean(line))
    script, place = folder / SCRIPT, shlex.quote(str(folder))
    option = f"--script {place}/{SCRIPT}"
    say(f"{script} repeats the changes, except those above. To run it:")
    if script.stat().st_size > MAX_SCRIPT:
        say(f"tar -C {place} -czf playbook.tar.gz {PLAYBOOK} {SCRIPT}    # upload it to the bucket ims")
        option = "--playbook s3://ims/playbook.tar.gz"
    parent = image["source_image_id"] or "IMAGE"
    say(f"ims jobs create --job-type customize --image-root-archive-name NAME --artifact-id {parent} {option}")
