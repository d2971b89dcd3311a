"""Removing trees that untrusted programs made."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ims.removal import mounts_in, remove

DEPTH = 5000


def make_deep(folder: Path, depth: int = DEPTH, name: str = "d") -> None:
    """Make nested folders, with a file in the last."""
    folder.mkdir()
    current = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=current)
        below = os.open(name, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=current))
    os.close(current)


def make_odd_names(folder: Path) -> None:
    """Make files with names that programs misread."""
    folder.mkdir()
    for name in (b"-rf", b"*", b"a\nb", b"\xff\xfe", b" ", b"...", b"n" * 255):
        (folder / os.fsdecode(name)).touch()
        (folder / os.fsdecode(b"d" + name[:250])).mkdir()


def make_closed(folder: Path) -> None:
    """Make a file without any permission."""
    folder.mkdir()
    (folder / "file").touch(mode=0o000)


def make_special(folder: Path) -> None:
    """Make a pipe, a socket and links that lead nowhere."""
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    (folder / "nowhere").symlink_to("gone")
    (folder / "loop").symlink_to("loop")


def make_wide(folder: Path) -> None:
    """Make many folders."""
    for number in range(2000):
        (folder / str(number % 50) / str(number)).mkdir(parents=True)


TREES: dict[str, Callable[[Path], None]] = {
    "5,000 nested folders": make_deep,
    "a long path": lambda folder: make_deep(folder, 100, "n" * 200),
    "odd names": make_odd_names,
    "no permission": make_closed,
    "pipes, sockets and links": make_special,
    "many folders": make_wide,
    "a file": Path.touch,
    "a link": lambda path: path.symlink_to("gone"),
    "nothing": lambda _: None,
}


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Path]:
    """A path for a tree. What the product cannot remove, pytest cannot remove either."""
    yield tmp_path / "tree"
    subprocess.run(["rm", "-rf", tmp_path / "tree"], check=True)


@pytest.mark.parametrize("make", TREES.values(), ids=TREES)
def test_tree_is_removed(where: Path, make: Callable[[Path], None]) -> None:
    """Nothing is left, whatever the tree contains."""
    make(where)
    remove(where)
    assert not os.path.lexists(where)


@pytest.mark.parametrize("target", ["outside", "outside/file"])
def test_links_are_not_followed(where: Path, target: str) -> None:
    """The targets of links in the tree stay, and so does the target of a link that is removed itself."""
    kept = where.parent / "outside" / "file"
    kept.parent.mkdir()
    kept.write_text("kept")
    where.mkdir()
    (where / "link").symlink_to(where.parent / target)
    remove(where / "link")
    (where / "link").symlink_to(where.parent / target)
    remove(where)
    assert kept.read_text() == "kept"


@pytest.mark.system
@pytest.mark.parametrize("flag", ["+i", "+a"])
def test_protected_files_are_removed(where: Path, flag: str) -> None:
    """Immutable and append-only files and folders are removed, even from a folder that is protected itself."""
    (where / "folder" / "below").mkdir(parents=True)
    for name in ("file", "folder/file", "folder/below/file"):
        (where / name).touch()
    subprocess.run(["chattr", "-R", flag, where], check=True)
    with pytest.raises(PermissionError):
        (where / "file").unlink()
    remove(where)
    assert not where.exists()


@pytest.mark.system
def test_devices_and_whiteouts_are_removed(where: Path) -> None:
    """An overlay stores removed files as devices."""
    where.mkdir()
    os.mknod(where / "whiteout", 0o020000, os.makedev(0, 0))
    os.mknod(where / "null", 0o020666, os.makedev(1, 3))
    remove(where)
    assert not where.exists()


@pytest.mark.system
@pytest.mark.parametrize("point", [".", "a b/mnt", "file"])
def test_mounted_file_system_is_not_touched(where: Path, point: str) -> None:
    """The error names the mount point, and nothing is removed."""
    kept = where.parent / "kept"
    (where / "a b" / "mnt").mkdir(parents=True)
    (where / "file").touch()
    if point == "file":
        kept.touch()
    else:
        kept.mkdir()
        (kept / "data").touch()
    subprocess.run(["mount", "--bind", kept, where / point], check=True)
    try:
        assert mounts_in(where) == [str((where / point).resolve())]
        with pytest.raises(OSError, match="mounted") as caught:
            remove(where)
        assert caught.value.filename == str((where / point).resolve())
    finally:
        subprocess.run(["umount", where / point], check=True)
    assert (where / "file").exists()
    assert kept.is_file() or (kept / "data").exists()
    remove(where)
    assert not where.exists()
