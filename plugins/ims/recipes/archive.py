"""Archives of recipes and playbooks: gzip tar files with a certain file at the root. Their content is not trusted."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path

from ims.errors import InputError
from ims.recipes.unpacking import extract
from ims.removal import remove

CONFIG = "config.xml"


def pack(folder: Path, archive: Path) -> None:
    """Pack a recipe folder as a `.tar.gz` file. The same content gives the same bytes.

    Raises InputError if the folder is not a recipe.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} has no {CONFIG}", "Name the folder that contains the recipe")
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(_walk(folder)):
            tar.add(path, str(path.relative_to(folder)), recursive=False, filter=_anonymous)


def unpack(archive: Path, folder: Path, *, max_bytes: int, max_files: int, entry: str = CONFIG) -> None:
    """Extract an archive into a new folder. If that fails, the folder is removed.

    Raises InputError if it is not a gzip tar file, if its members are unsafe or too large, or if it has no file
    `entry` at its root.
    """
    remove(folder)
    folder.mkdir(parents=True)
    try:
        extract(archive, folder, max_bytes, max_files)
        if not (folder / entry).is_file():
            raise InputError(
                f"the archive has no {entry} at its root{_nested(folder, entry)}",
                "Pack the content of the folder, not the folder: tar -C FOLDER -czf ARCHIVE.tar.gz .",
            )
    except BaseException:
        remove(folder)
        raise


def digest(folder: Path, *, without: Collection[str] = ()) -> str:
    """The SHA-256 of a recipe's content: paths, file content, link targets, and whether files are executable.

    Does not depend on the order in the archive, on times or on owners, and skips the paths in `without`.
    """
    total = hashlib.sha256()
    for path in sorted(_walk(folder), key=lambda path: path.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        for part in (name, *_content(path)) if name not in without else ():
            total.update(len(part).to_bytes(8, "big") + os.fsencode(part))
    return total.hexdigest()


def _content(path: Path) -> Iterator[str]:
    if path.is_symlink():
        yield from ("link", str(path.readlink()))
    elif path.is_dir():
        yield "folder"
    else:
        yield "program" if path.stat().st_mode & 0o100 else "file"
        with path.open("rb") as file:
            yield hashlib.file_digest(file, "sha256").hexdigest()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


def _walk(folder: Path) -> Iterator[Path]:
    """Everything below a folder, in no particular order. Links are not followed."""
    pending = [folder]
    while pending:
        for path in pending.pop().iterdir():
            yield path
            if path.is_dir() and not path.is_symlink():
                pending.append(path)


def _nested(folder: Path, entry: str) -> str:
    found = sorted(str(path.relative_to(folder)) for path in folder.glob(f"*/{entry}"))
    return f", but {found[0]}" if found else ""
