"""A tree with files of every kind, and changes of it, each as a program in a shell makes it."""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
TIME = 1_500_000_000

Change = Callable[[Path], object]


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that cannot be compressed."""
    return random.Random(seed).randbytes(size)  # noqa: S311  (reproducible)


def write_tree(root: Path) -> None:
    """A tree in which changes can meet everything that a squashfs stores."""
    for name in ("etc/sub/deep", "usr/bin", "usr/lib/x/y/z", "var/opaque/a/b", "var/empty", "dev", "home/u", "links"):
        (root / name).mkdir(parents=True)
    for name in ("todir/isdir/in", "many"):
        (root / name).mkdir(parents=True)
    _write_files(root)
    _write_links(root)
    _write_odd_files(root)
    for number in range(3000):
        (root / f"many/file-number-{number}").write_bytes(str(number).encode() if number % 7 else b"")
    os.chown(root / "home/u", 1000, 1000)
    root.chmod(0o755)
    for path in (*root.rglob("*"), root):
        os.utime(path, (TIME, TIME), follow_symlinks=False)


def _write_files(root: Path) -> None:
    (root / "etc/passwd").write_text("root:x:0:0\n")
    (root / "etc/motd").touch()
    (root / "etc/secret").write_text("old secret\n")
    (root / "etc/secret").chmod(0o600)
    os.chown(root / "etc/secret", 3, 4)
    for number in range(40):
        content = noise(number * 9000 + 1, number)
        (root / f"usr/lib/x/f{number}").write_bytes(content if number % 2 else content.hex().encode())
    (root / "usr/bin/big").write_bytes(noise(3_500_001))
    (root / "usr/bin/big").chmod(0o4755)
    (root / "usr/bin/exact").write_bytes(noise(1 << 20))
    (root / "usr/bin/ping").write_bytes(noise(70000))
    os.setxattr(root / "usr/bin/ping", "security.capability", CAPABILITY)
    os.setxattr(root / "usr/bin/big", "user.note", b"hello")
    os.setxattr(root / "etc/sub", "user.thing", b"x" * 2000)
    os.setxattr(root / "etc/passwd", "user.thing", b"x" * 2000)  # stored once
    (root / "todir/isfile").write_text("a file")
    (root / "todir/isdir/in/f").write_text("x")
    for number in range(20):
        (root / f"var/opaque/a/f{number}").write_text(str(number))


def _write_links(root: Path) -> None:
    (root / "links/l1").write_bytes(noise(200_000, 2))
    for name in ("links/l2", "links/l3", "etc/l4"):
        os.link(root / "links/l1", root / name)
    (root / "links/s1").symlink_to("../etc/passwd")
    os.link(root / "links/s1", root / "links/s2", follow_symlinks=False)
    (root / "links/single").symlink_to("x" * 3000)


def _write_odd_files(root: Path) -> None:
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "dev/disk", stat.S_IFBLK | 0o660, os.makedev(259, 300))
    os.mkfifo(root / "dev/pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{os.open(root / 'dev', os.O_PATH)}/socket")
    same = noise(500_000, 3)
    for name in "abc":
        (root / f"home/{name}").write_bytes(same)
    with (root / "home/sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
        file.truncate(9_000_000)
    Path(os.fsdecode(os.fsencode(root) + b"/home/u/n\xff\xfe\x80ame\nline")).write_bytes(b"not UTF-8")
    (root / "home/u" / ("L" * 255)).write_text("long name")


def change_nothing(_root: Path) -> None:
    """The upper folder is empty."""


def change_one(root: Path) -> None:
    """The content of a file."""
    (root / "etc/passwd").write_text("root:x:0:0\nnew:x:1:1\n")


def add_deep(root: Path) -> None:
    """Folders in folders, and new owners."""
    (root / "usr/lib/x/y/z/new/dir/of/files").mkdir(parents=True)
    (root / "usr/lib/x/y/z/new/dir/of/files/f").write_bytes(noise(2_000_003, 4))
    os.chown(root / "usr/lib/x/y/z/new/dir/of/files/f", 70001, 70002)
    (root / "usr/lib/x/y/z/new/empty").mkdir()


def remove_some(root: Path) -> None:
    """A file, a folder and a link."""
    (root / "usr/lib/x/f3").unlink()
    (root / "etc/sub/deep").rmdir()
    (root / "links/single").unlink()


def swap_kinds(root: Path) -> None:
    """A folder becomes a file, a file becomes a folder."""
    shutil.rmtree(root / "todir/isdir")
    (root / "todir/isdir").write_text("now a file")
    (root / "todir/isfile").unlink()
    (root / "todir/isfile").mkdir()
    (root / "todir/isfile/f").write_text("in")


def replace_folder(root: Path) -> None:
    """The new folder hides the old one."""
    shutil.rmtree(root / "var/opaque")
    (root / "var/opaque/a").mkdir(parents=True)
    (root / "var/opaque/only").write_text("1")
    (root / "var/opaque/a/f1").write_text("other")


def add_links(root: Path) -> None:
    """New files with several names, and a new name of an old one."""
    (root / "etc/new1").write_bytes(noise(150_000, 5))
    os.link(root / "etc/new1", root / "home/new2")
    os.link(root / "usr/lib/x/f5", root / "etc/f5")
    os.mkfifo(root / "etc/pipe")
    os.link(root / "etc/pipe", root / "home/pipe")


def change_attributes(root: Path) -> None:
    """Modes, owners, times and extended attributes, of folders too."""
    (root / "usr/bin/exact").chmod(0o700)
    os.chown(root / "etc/motd", 5, 6)
    os.utime(root / "etc/secret", (1, 1))
    root.chmod(0o711)
    os.chown(root / "home", 9, 9)
    os.setxattr(root / "usr/bin/ping", "user.more", b"y" * 100)
    os.removexattr(root / "usr/bin/big", "user.note")
    os.setxattr(root / "etc/sub", "user.on-folder", b"z")
    os.setxattr(root / "usr/lib/x/f1", "security.capability", CAPABILITY)


def change_devices(root: Path) -> None:
    """Devices, pipes and long links."""
    os.mknod(root / "dev/new", stat.S_IFCHR | 0o600, os.makedev(5, 1000))
    os.mkfifo(root / "dev/pipe2")
    (root / "dev/disk").unlink(missing_ok=True)
    (root / "etc/link").symlink_to("x" * 3000)


def add_names(root: Path) -> None:
    """More names than fit a block, and names that are not text."""
    Path(os.fsdecode(os.fsencode(root) + b"/home/u/\xe9t\xe9 \x01")).write_bytes(b"latin")
    os.unlink(os.fsencode(root) + b"/home/u/n\xff\xfe\x80ame\nline")  # noqa: PTH108  (the name is not text)
    for number in range(3000):
        (root / f"home/u/added-file-with-a-longer-name-{number:05}").write_text("q" * (number % 5))


def change_long_folder(root: Path) -> None:
    """A folder whose names need several blocks and an index."""
    (root / "many/file-number-5").unlink()
    (root / "many/file-number-2500").write_text("changed")
    (root / "many/zz").mkdir()


def make_holes(root: Path) -> None:
    """Files with holes, one of more than 4 GiB."""
    with (root / "home/sparse").open("r+b") as file:
        file.seek(7_000_000)
        file.write(b"middle")
    with (root / "home/sparse2").open("wb") as file:
        file.seek(40_000_000)
        file.write(b"end")
    with (root / "home/hole").open("wb") as file:
        file.truncate(2 << 20)


def remove_all(root: Path) -> None:
    """Everything but the names of files that have several."""
    for path in root.iterdir():
        if path.name not in ("links", "etc"):
            shutil.rmtree(path)


def change_much(root: Path) -> None:
    """All of the above that does not contradict."""
    for change in (change_one, add_deep, remove_some, swap_kinds, replace_folder, add_links, change_devices, add_names):
        change(root)
    change_long_folder(root)
    make_holes(root)
    os.setxattr(root / "etc/sub", "user.on-folder", b"z")


CHANGES: list[Change] = [
    *(change_nothing, change_one, add_deep, remove_some, swap_kinds, replace_folder, add_links, change_attributes),
    *(change_devices, add_names, change_long_folder, make_holes, remove_all, change_much),
]


def change_link_in_place(root: Path) -> None:
    """The other names of the file show the change as well."""
    (root / "links/l1").write_text("through one name")


def replace_link(root: Path) -> None:
    """Package managers replace a file like this. The other names keep the old content."""
    (root / "links/new").write_text("replaced")
    (root / "links/new").rename(root / "links/l1")


def remove_link(root: Path) -> None:
    """The other names remain."""
    (root / "etc/l4").unlink()


def change_link_and_remove_it(root: Path) -> None:
    """Only the index of the overlay has the content that the other names show."""
    change_link_in_place(root)
    (root / "links/l1").unlink()


def move_link(root: Path) -> None:
    """Into another folder, and once more after a change."""
    (root / "links/l1").rename(root / "home/moved")
    (root / "etc/l4").write_text("changed")
    (root / "home/moved").rename(root / "usr/moved")


def keep_one_name(root: Path) -> None:
    """The file then has one name, as an ordinary one."""
    for name in ("links/l1", "links/l2", "etc/l4"):
        (root / name).unlink()


def remove_all_names(root: Path) -> None:
    """All names of the file are removed, one of them together with its folder."""
    (root / "etc/l4").unlink()
    shutil.rmtree(root / "links")


def replace_folder_of_links(root: Path) -> None:
    """A name elsewhere remains, and a link now has the place of the folder."""
    shutil.rmtree(root / "links")
    (root / "links").symlink_to("etc")
    (root / "etc/l1").write_text("not a name of the file")


def add_names_of_links(root: Path) -> None:
    """New names of an old file, of its attributes that changed, and of a symbolic link."""
    os.link(root / "links/l2", root / "usr/bin/l5")
    (root / "links/l3").chmod(0o4711)
    os.chown(root / "links/s1", 7, 8, follow_symlinks=False)
    os.link(root / "links/s2", root / "usr/s3", follow_symlinks=False)
    (root / "links/s1").unlink()


LINK_CHANGES: list[Change] = [
    *(change_link_in_place, replace_link, remove_link, change_link_and_remove_it, move_link, keep_one_name),
    *(remove_all_names, replace_folder_of_links, add_names_of_links),
]
