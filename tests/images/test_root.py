"""Looking up files in an image root."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from ims.images.root import resolve_inside

LINKS = {
    "boot/vmlinuz": "vmlinuz-6.1",
    "boot/initrd": "/boot/initrd-6.1",
    "boot/up": "../usr/bin/sh",
    "boot/out": "../../../../../../etc/hostname",
    "bin": "usr/bin",
    "sbin": "/usr/bin",
    "usr/lib/self": ".",
    "chain": "boot/chain",
    "boot/chain": "/usr/../boot/vmlinuz",
    "loop": "loop",
    "ping": "pong",
    "pong": "ping",
    "gone": "/nowhere",
    "through-gone": "nowhere/../etc/hostname",
    "root": "/",
}
FILES = ("boot/vmlinuz-6.1", "boot/initrd-6.1", "etc/hostname", "usr/bin/sh", "usr/lib/x")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image root with many links."""
    folder = tmp_path_factory.mktemp("image") / "root"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)
    return folder


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("boot/vmlinuz-6.1", "boot/vmlinuz-6.1"),
        ("/boot/vmlinuz-6.1", "boot/vmlinuz-6.1"),
        ("boot/vmlinuz", "boot/vmlinuz-6.1"),
        ("boot/initrd", "boot/initrd-6.1"),
        ("boot/up", "usr/bin/sh"),
        ("boot/out", "etc/hostname"),
        ("bin/sh", "usr/bin/sh"),
        ("sbin/sh", "usr/bin/sh"),
        ("bin", "usr/bin"),
        ("chain", "boot/vmlinuz-6.1"),
        ("usr/lib/self/self/x", "usr/lib/x"),
        ("root/root/etc/hostname", "etc/hostname"),
        ("../../etc/hostname", "etc/hostname"),
        ("boot/../etc/hostname", "etc/hostname"),
        (".", "."),
        ("", "."),
    ],
)
def test_existing_file(root: Path, name: str, found: str) -> None:
    """Absolute links and links upward stay inside the root."""
    assert resolve_inside(root, name) == root / found


@pytest.mark.parametrize(
    "name",
    [
        "nowhere",
        "nowhere/x",
        "gone",
        "loop",
        "ping",
        "loop/x",
        "boot/vmlinuz/x",
        "boot/vmlinuz-6.1/../initrd-6.1",
        "nowhere/../etc/hostname",
        "through-gone",
        pytest.param("n" * 300, id="name too long"),
        "a\0b",
    ],
    ids=repr,
)
def test_missing_file(root: Path, name: str) -> None:
    """There is no such name, a link refers to nothing or to itself, or the path leads through a file."""
    assert resolve_inside(root, name) is None


def test_link_to_a_file_of_the_host_is_not_followed(tmp_path: Path) -> None:
    """The host has the file, but the image does not."""
    (tmp_path / "kernel").symlink_to("/etc/hostname")
    assert Path("/etc/hostname").exists()
    assert resolve_inside(tmp_path, "kernel") is None


LOOK = """
import os, sys
os.chroot(sys.argv[1])
os.chdir("/")
for name in sys.stdin.read().splitlines():
    try:
        print(os.stat(name).st_ino)
    except OSError:
        print(None)
"""


@pytest.mark.system
def test_the_kernel_gives_the_same_answers(root: Path) -> None:
    """A process in the root looks up all paths of up to three parts: 8000 paths through links, files and nothing."""
    parts = (*LINKS, *FILES, "..", "usr", "nowhere")
    names = ["/".join(path) for length in (1, 2, 3) for path in itertools.product(parts, repeat=length)]
    look = [sys.executable, "-c", LOOK, str(root)]
    seen = subprocess.run(look, input="\n".join(names), capture_output=True, text=True, check=True).stdout.split()
    found = [resolve_inside(root, name) for name in names]
    differing = [
        name for name, path, inode in zip(names, found, seen, strict=True) if str(path and path.stat().st_ino) != inode
    ]
    assert differing == []
