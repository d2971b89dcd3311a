"""Recipe archives: gzip tars with `config.xml` at the root, from people we do not trust."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from ims.errors import InputError

CONFIG = "config.xml"


def pack(folder: Path, archive: Path) -> None:
    """Write a recipe folder to a `.tar.gz`; the same content gives the same bytes.

    Raises InputError: the folder is not a recipe.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} has no {CONFIG}", "Name the folder that holds the recipe")
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(folder.rglob("*")):
            tar.add(path, str(path.relative_to(folder)), recursive=False, filter=_anonymous)


def unpack(archive: Path, folder: Path, *, max_bytes: int, max_files: int) -> None:
    """Extract a recipe into a new folder, or leave nothing.

    Raises InputError: not a gzip tar, unsafe or too large members, or no `config.xml` at its root.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _extract(archive, folder, max_bytes, max_files)
        if not (folder / CONFIG).is_file():
            raise InputError(
                f"the recipe has no {CONFIG} at its root{_nested(folder)}",
                "Pack the content of the recipe's folder, not the folder: tar -C FOLDER -czf recipe.tar.gz .",
            )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def digest(folder: Path) -> str:
    """SHA-256 of a recipe's content: paths, file bytes, link targets and whether a file is executable.

    The order in the archive, times and owners do not count.
    """
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        for part in (path.relative_to(folder).as_posix(), *_content(path)):
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


def _extract(archive: Path, folder: Path, max_bytes: int, max_files: int) -> None:
    total = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for count, member in enumerate(tar, start=1):
                total += member.size
                if total > max_bytes or count > max_files:
                    raise InputError(
                        f"the recipe unpacks to more than {max_bytes} bytes or {max_files} files",
                        "Make it smaller, or raise IMS_RECIPE_MAX_MIB or IMS_RECIPE_MAX_FILES",
                    )
                tar.extract(member, folder, filter=_recipe_member)
    except tarfile.FilterError as error:
        raise InputError(f"the recipe has a member that cannot be unpacked safely: {error}") from None
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"the recipe is not a gzip tar archive: {error}", "Make it with tar -czf") from None


def _recipe_member(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
    """Python's `data` filter, which refuses absolute names too instead of making them relative."""
    if member.name.startswith("/"):
        raise tarfile.AbsolutePathError(member)
    safe = tarfile.data_filter(member, path)
    # The overlay of an image needs its modes; set-id bits and writing for others stay off.
    return safe.replace(mode=(member.mode & 0o755) | 0o600, deep=False)


def _nested(folder: Path) -> str:
    found = sorted(str(path.relative_to(folder)) for path in folder.glob(f"*/{CONFIG}"))
    return f", but {found[0]}" if found else ""
