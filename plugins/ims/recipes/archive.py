"""Archives of recipes and playbooks: gzip tar files with a certain file at the root. Their content is not trusted."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import stat
import tarfile
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path, PurePosixPath

from ims.errors import InputError
from ims.recipes import version_control
from ims.recipes.litter import is_litter, listed
from ims.recipes.overlay import CAPABILITY, CAPABILITY_HEADER, apply_attributes, is_overlay
from ims.recipes.unpacking import extract
from ims.removal import remove

log = logging.getLogger(__name__)

CONFIG = "config.xml"
KIWI_FILES = "*.kiwi"
"""Other names of descriptions."""


def description_file(folder: Path) -> str:
    """The name of the description in a recipe folder: the one that kiwi reads. Raises InputError if there is none."""
    names = [CONFIG, *sorted(path.name for path in folder.glob(KIWI_FILES))]
    found = next((name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise InputError(
            f"{folder} has no {CONFIG} and no {KIWI_FILES}", "Name the folder that contains the description"
        )
    return found


def pack(folder: Path, archive: Path) -> list[str]:
    """Pack a recipe folder as a `.tar.gz` file. The same content gives the same bytes.

    Leaves out litter, the data of version control, and what git ignores; returns their names.
    Raises InputError if the folder is not a recipe, and the errors of `version_control.ignored`.
    """
    description_file(folder)
    contents, left_out = _contents(folder)
    normal = partial(_normal, is_checkout=version_control.is_checkout(folder))
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(contents):
            member = tar.gettarinfo(path, str(path.relative_to(folder)))
            _keep_capability(member, path)
            with path.open("rb") if member.isreg() else nullcontext() as source:
                tar.addfile(normal(member), source)
    return left_out


def _contents(folder: Path) -> tuple[list[Path], list[str]]:
    """What is packed of a folder, and the names of the rest. Of a folder that is left out, only its own name."""
    ignored = version_control.ignored(folder)
    left_out: list[str] = []

    def is_packed(path: Path) -> bool:
        name = PurePosixPath(path.relative_to(folder))
        is_excluded = is_litter(name) or version_control.is_own_data(name) or name in ignored
        if is_excluded:
            left_out.append(str(name))
        return not is_excluded

    contents = list(_walk(folder, is_packed))
    return contents, sorted(left_out)


def _keep_capability(member: tarfile.TarInfo, path: Path) -> None:
    if member.isreg() and CAPABILITY in os.listxattr(path):
        member.pax_headers = {CAPABILITY_HEADER: os.getxattr(path, CAPABILITY).decode(errors="surrogateescape")}


def unpack(archive: Path, folder: Path, *, max_bytes: int, max_files: int, entry: str = CONFIG) -> None:
    """Extract an archive into a new folder. If that fails, the folder is removed.

    Raises InputError if it is not a gzip tar file, if its members are unsafe or too large, or if it has no file
    `entry`, or for a recipe no description, at its root.
    """
    remove(folder)
    folder.mkdir(parents=True)
    try:
        left_out = extract(archive, folder, max_bytes, max_files, is_recipe=entry == CONFIG)
        if os.geteuid() == 0:  # others could no longer read, change or remove all of it
            apply_attributes(folder, folder)
        if not any(path.is_file() for pattern in _entries(entry) for path in folder.glob(pattern)):
            raise InputError(
                f"the archive has no {entry} at its root{_nested(folder, entry)}",
                "Pack the content of the folder, not the folder: tar -C FOLDER -czf ARCHIVE.tar.gz .",
            )
    except BaseException:
        remove(folder)
        raise
    if left_out:
        log.warning("left out of the archive, files that a system or an editor made: %s", listed(left_out))


def digest(folder: Path, *, without: Collection[str] = (), all_modes: bool = False) -> str:
    """The SHA-256 of a recipe's content: paths, file content, link targets, and whether files are executable.

    The modes of the overlay are part of it, with `all_modes` also those of the overlays of profiles, which can be all
    folders. It does not depend on the order in the archive, on times or on owners, and skips the paths in `without`.
    """
    total = hashlib.sha256()
    for path in sorted(_walk(folder), key=lambda path: path.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        for part in (name, *_content(path, PurePosixPath(name), all_modes)) if name not in without else ():
            total.update(len(part).to_bytes(8, "big") + os.fsencode(part))
    return total.hexdigest()


def _content(path: Path, name: PurePosixPath, all_modes: bool) -> Iterator[str]:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        yield from ("link", str(path.readlink()))
        return
    if is_overlay(name) or (all_modes and len(name.parts) > 1):
        yield f"mode {stat.S_IMODE(status.st_mode):o}"
    if stat.S_ISDIR(status.st_mode):
        yield "folder"
    else:
        yield "program" if status.st_mode & 0o100 else "file"
        with path.open("rb") as file:
            yield hashlib.file_digest(file, "sha256").hexdigest()


def _normal(member: tarfile.TarInfo, *, is_checkout: bool) -> tarfile.TarInfo:
    """A member without what differs between two copies of a recipe: time, owner, and modes without a meaning."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    if not is_overlay(PurePosixPath(member.name)):
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    elif is_checkout and not member.mode & 0o7000:
        member.mode &= ~0o022  # git does not store it: it depends on the umask of the checkout
    return member


def _walk(folder: Path, is_read: Callable[[Path], bool] = lambda _: True) -> Iterator[Path]:
    """Everything below a folder that is to be read, in no particular order. Links are not followed."""
    pending = [folder]
    while pending:
        for path in filter(is_read, pending.pop().iterdir()):
            yield path
            if path.is_dir() and not path.is_symlink():
                pending.append(path)


def _entries(entry: str) -> tuple[str, ...]:
    """The patterns of the files of which an archive must have one."""
    return (CONFIG, KIWI_FILES) if entry == CONFIG else (entry,)


def _nested(folder: Path, entry: str) -> str:
    found = sorted(str(path.relative_to(folder)) for pattern in _entries(entry) for path in folder.glob(f"*/{pattern}"))
    return f", but {found[0]}" if found else ""
