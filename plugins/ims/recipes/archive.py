"""Archives of recipes and playbooks: gzip tar files with a certain file at the root. Their content is not trusted."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ims.errors import InputError

CONFIG = "config.xml"
_OVERHEAD = 4096  # bytes that an archive needs for the headers and the padding of a member


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
        for path in sorted(folder.rglob("*")):
            tar.add(path, str(path.relative_to(folder)), recursive=False, filter=_anonymous)


def unpack(archive: Path, folder: Path, *, max_bytes: int, max_files: int, entry: str = CONFIG) -> None:
    """Extract an archive into a new folder. If that fails, the folder is removed.

    Raises InputError if it is not a gzip tar file, if its members are unsafe or too large, or if it has no file
    `entry` at its root.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _extract(archive, folder, max_bytes, max_files)
        if not (folder / entry).is_file():
            raise InputError(
                f"the archive has no {entry} at its root{_nested(folder, entry)}",
                "Pack the content of the folder, not the folder: tar -C FOLDER -czf ARCHIVE.tar.gz .",
            )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def digest(folder: Path, *, without: Collection[str] = ()) -> str:
    """The SHA-256 of a recipe's content: paths, file content, link targets, and whether files are executable.

    Does not depend on the order in the archive, on times or on owners, and skips the paths in `without`.
    """
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
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


class _Limited(io.RawIOBase):
    """Uncompressed data up to a limit, which also covers the headers of members."""

    def __init__(self, unzipped: gzip.GzipFile, rest: int, error: InputError) -> None:
        self._unzipped, self._rest, self._error = unzipped, rest, error

    def read(self, size: int = -1) -> bytes:
        data = self._unzipped.read(size)
        self._rest -= len(data)
        if self._rest < 0:
            raise self._error
        return data


def _extract(archive: Path, folder: Path, max_bytes: int, max_files: int) -> None:
    too_large = InputError(
        f"the archive unpacks to more than {max_bytes} bytes or {max_files} files",
        "Make it smaller, or raise IMS_RECIPE_MAX_MIB or IMS_RECIPE_MAX_FILES",
    )
    total, links = 0, []
    try:
        with gzip.open(archive) as unzipped:
            limited = _Limited(unzipped, max_bytes + max_files * _OVERHEAD, too_large)
            with tarfile.open(fileobj=limited, mode="r|") as tar:
                for count, member in enumerate(tar, start=1):
                    total += member.size
                    if total > max_bytes or count > max_files:
                        raise too_large
                    if member.issym():
                        links.append(member)
                    else:
                        _write(tar, member, folder)
            while limited.read(1 << 16):  # gzip verifies its checksum at the end
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"the archive is not a gzip tar archive: {error}", "Make it with tar -czf") from None
    for link in links:
        _link(link, folder)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Make a file or a folder. Symbolic links come later, so a name without `..` cannot lead out of the folder."""
    with _bad_member(member):
        path = _inside(folder, member.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.isdir():
            path.mkdir(exist_ok=True)
            return
        path.unlink(missing_ok=True)
        if member.islnk():
            path.hardlink_to(_inside(folder, member.linkname))
            return
        source = tar.extractfile(member) if member.isreg() and member.size >= 0 else None
        if source is None:
            raise ValueError("it is neither a file nor a folder nor a link")
        with path.open("xb") as file:
            shutil.copyfileobj(source, file)
        # The overlay files of an image keep their permissions, without set-id bits and write access for others.
        path.chmod((member.mode & 0o755) | 0o600)
        os.utime(path, (member.mtime, member.mtime))


def _link(member: tarfile.TarInfo, folder: Path) -> None:
    """Make a symbolic link that stays inside the folder.

    None of its parents is a link, and a normalized target has `..` only at its start. So the text of the target
    decides where the link leads.
    """
    with _bad_member(member):
        path, target = _inside(folder, member.name), posixpath.normpath(member.linkname)
        within = posixpath.normpath(path.parent.relative_to(folder) / target)
        if target.startswith("/") or within.split("/")[0] == "..":
            raise ValueError(f"it leads out of the archive, to {member.linkname}")
        if any(parent.is_symlink() for parent in path.parents if parent.is_relative_to(folder)):
            raise ValueError("it is below a link")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def _inside(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts:
        raise ValueError(f"the name {name} leads out of the archive")
    return folder.joinpath(*parts)


@contextmanager
def _bad_member(member: tarfile.TarInfo) -> Iterator[None]:
    try:
        yield
    except (ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"the archive's member {member.name[:200]!r} cannot be unpacked safely: {reason}") from None


def _nested(folder: Path, entry: str) -> str:
    found = sorted(str(path.relative_to(folder)) for path in folder.glob(f"*/{entry}"))
    return f", but {found[0]}" if found else ""
