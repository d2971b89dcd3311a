"""A customized image keeps everything else as it was, from the squashfs through an overlay to a new squashfs."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ims.builder.squashfs import make_rootfs
from ims.errors import ImsError
from ims.runtime.local.process import StepProcess
from ims.runtime.local.runtime import LocalRuntime
from ims.sandbox import box, overlay
from ims.sandbox.overlay import Layers, mount_image
from ims.sandbox.view import View
from ims.steps.package_artifacts import STEP
from tests.images.trees import snapshot

pytestmark = pytest.mark.system

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep
ACCESS = [(0x01, 6, 2**32 - 1), (0x02, 4, 1000), (0x04, 4, 2**32 - 1), (0x10, 4, 2**32 - 1), (0x20, 0, 2**32 - 1)]
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ACCESS)
"""The ACL that `setfacl -m u:1000:r` sets."""
LARGE = 300 * 1024**2
SIZE_FIELD = 40
"""The offset of the size of a squashfs in its first block. The file may be longer."""
WITH_TRUSTED_ATTRIBUTES = ("odd/link", "odd/null")
"""Files that lose their attributes: only root of the host can read those of the prefix `trusted`."""


def write_tree(root: Path) -> None:
    """Everything that a file system can store, and the kernel and initrd that packaging requires."""
    for name in ("boot", "dev", "etc", "odd", "proc", "run", "sys", "tmp", "usr/bin", "var/empty"):
        (root / name).mkdir(parents=True)
    for name in ("boot/vmlinuz", "boot/initrd", "etc/motd", "usr/bin/su", "usr/bin/wall", "usr/bin/ping", "odd/owned"):
        (root / name).write_text(f"this is {name}\n")
    (root / "usr/bin/su").chmod(0o4755)
    (root / "usr/bin/wall").chmod(0o2711)
    (root / "var/empty").chmod(0o3000)
    os.chown(root / "odd/owned", 4_000_000_000, 65534)
    (root / "odd/owned").chmod(0)
    (root / "odd/link").symlink_to("x" * 4000)
    os.chown(root / "odd/link", 12, 34, follow_symlinks=False)
    os.mknod(root / "odd/disk", stat.S_IFBLK | 0o640, os.makedev(259, 70_000))
    os.mknod(root / "odd/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(root / "odd/pipe", 0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{os.open(root / 'odd', os.O_PATH)}/socket")
    for number in range(3):
        os.link(root / "usr/bin/ping", root / f"odd/ping{number}")
    os.link(root / "odd/pipe", root / "odd/pipe2")
    with (root / "odd/sparse").open("wb") as file:
        file.seek(LARGE)
        file.write(b"end")
    for odd in (b"n" * 255, b"\xff\xfe not UTF-8", b"new\nline", "naïve".encode(), b" ", b"-rf"):
        (root / "odd" / os.fsdecode(odd)).write_bytes(odd)
    write_attributes(root)
    os.chown(root, 7, 8)
    root.chmod(0o1555)
    for number, path in enumerate([root, *sorted(root.rglob("*"))]):
        os.utime(path, ns=(0, number * 86_400 * 10**9 * 500 % (2**32 * 10**9) + 999_999_999), follow_symlinks=False)


def write_attributes(root: Path) -> None:
    """All types of extended attributes that a squashfs can store, on files, folders, links and devices."""
    os.setxattr(root / "usr/bin/ping", "security.capability", CAPABILITY)
    os.setxattr(root / "etc", "user.note", b"kept\0" * 500)
    os.setxattr(root / "etc/motd", "user.empty", b"")
    os.setxattr(root / "odd/null", "trusted.note", b"\xff")
    os.setxattr(root / "odd/link", "trusted.note", b"of the link", follow_symlinks=False)
    os.setxattr(root, "user.note", b"of /")
    os.setxattr(root / "var/empty", "security.selinux", b"system_u:object_r:var_t:s0\0")


@contextmanager
def shown(rootfs: Path, folder: Path) -> Iterator[Path]:
    """Mount a squashfs read-only."""
    folder.mkdir()
    overlay.mount("-t", "squashfs", "-o", "loop,ro", rootfs, folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree. Its squashfs, made like create_image does, is next to it."""
    folder = tmp_path_factory.mktemp("tree")
    write_tree(folder / "root")
    make_rootfs(folder / "root", folder / "rootfs")
    return folder / "root"


@pytest.fixture
def workspace() -> Iterator[Path]:
    """The workspace of a job."""
    runtime = LocalRuntime()
    yield runtime.open_workspace("round-trip", 1)
    runtime.close_workspace("round-trip")


def customized(rootfs: Path, workspace: Path, change: Callable[[Path], object]) -> list[str]:
    """Change an image root like a shell would, then pack it; returns the log of the packaging."""
    root, changes = workspace / "image-root", workspace / "changes"
    mount_image(rootfs, changes, root)
    try:
        change(root)
    finally:
        for folder in (root, changes / overlay.LOWER):
            if os.path.ismount(folder):
                subprocess.run(["umount", folder], check=True)
    data = {
        **{"workspace": str(workspace), "rootfs": str(rootfs), "arch": "x86_64"},
        **{"kernel_file_name": None, "initrd_file_name": "initrd", "kernel_parameters_file_name": "x"},
    }
    lines: list[str] = []
    StepProcess().run(STEP, data, "package", lines.append)
    return lines


def test_only_the_change_differs(tree: Path, workspace: Path, tmp_path: Path) -> None:
    """Owners, modes, times, attributes, links, devices, pipes, sockets, holes and names are those of the first tree."""
    lines = customized(tree.with_name("rootfs"), workspace, lambda root: (root / "etc/motd").write_text("changed\n"))
    before = snapshot(tree)
    with shown(workspace / "artifacts/rootfs", tmp_path / "after") as root:
        after = snapshot(root)
        assert (root / "etc/motd").read_text() == "changed\n"
        assert (root / "odd/sparse").stat().st_blocks * 512 < LARGE / 100
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] != after[name]} == {"etc/motd", *WITH_TRUSTED_ATTRIBUTES}
    assert not any("ACL" in line for line in lines)


def test_hard_links_are_changed_together(tree: Path, workspace: Path, tmp_path: Path) -> None:
    """A change of attributes or content through any name changes the one file."""

    def change(root: Path) -> None:
        (root / "odd/ping1").write_text("changed\n")
        (root / "odd/pipe2").chmod(0o700)

    customized(tree.with_name("rootfs"), workspace, change)
    before = snapshot(tree)
    with shown(workspace / "artifacts/rootfs", tmp_path / "after") as root:
        after = snapshot(root)
        assert {(root / name).stat().st_ino for name in ("usr/bin/ping", "odd/ping0", "odd/ping2")} == {
            (root / "odd/ping1").stat().st_ino
        }
        assert (root / "usr/bin/ping").read_text() == "changed\n"
    changed = {name for name in before if before[name] != after[name]}
    linked = {"usr/bin/ping", "odd/ping0", "odd/ping1", "odd/ping2", "odd/pipe", "odd/pipe2"}
    assert changed == {*linked, *WITH_TRUSTED_ATTRIBUTES}


def test_kernel_that_cannot_map_owners(
    tree: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is copied by the first step of the job. The result is the same."""
    monkeypatch.setattr(overlay, "can_map_owners", lambda _mount_point: False)

    def change(root: Path) -> None:
        (root / "odd/ping1").write_text("changed\n")

    customized(tree.with_name("rootfs"), workspace, change)
    before = snapshot(tree)
    with shown(workspace / "artifacts/rootfs", tmp_path / "after") as root:
        after = snapshot(root)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"usr/bin/ping", "odd/ping0", "odd/ping1", "odd/ping2", *WITH_TRUSTED_ATTRIBUTES}


def test_image_is_unpacked(
    tree: Path,
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    configure: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The kernel reads no squashfs. The result is the same, except for what a sandbox cannot make; the log names it."""
    configure(squashfs="unpack")
    monkeypatch.setattr(overlay, "_mount_or_explain", _mount_no_squashfs)
    customized(tree.with_name("rootfs"), workspace, lambda root: (root / "etc/motd").write_text("changed\n"))
    before = snapshot(tree)
    with shown(workspace / "artifacts/rootfs", tmp_path / "after") as root:
        after = snapshot(root)
    lost = before.keys() - after.keys()
    assert lost == {"odd/disk", "odd/null"}
    assert {name for name in after if before[name] != after[name]} == {"etc/motd", "odd/link"}
    warning = capfd.readouterr().err
    assert "WARNING: unpacking the image in a sandbox lost 3 devices or attributes: " in warning
    assert "failed to create block device /odd/disk; " in warning
    assert "failed to write xattr trusted.note for file /odd/link" in warning


def _mount_no_squashfs(kind: str, *arguments: str | Path, folder: Path | None = None, **_more: object) -> None:
    assert kind != "squashfs"
    overlay.mount("-t", kind, *arguments[1:], folder=folder)


def test_sandbox_that_sees_an_image_unpacks_it(tree: Path, workspace: Path, configure: Callable[..., None]) -> None:
    """The first step that sees the image starts the sandbox that unpacks it; files have their true owners."""
    configure(squashfs="unpack")
    rootfs, changes, root = tree.with_name("rootfs"), workspace / "changes", workspace / "image-root"
    view = View((workspace,), image=Layers(rootfs, changes, root))
    script = f"cd {root}; stat -c '%u:%g %a' usr/bin/su .; touch etc/new; grep -c squashfs /proc/self/mounts"
    command = box.command(view, ["sh", "-c", script])
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:3] == ["0:0 4755", "7:8 1555", "0"], done.stderr
    assert (changes / "upper/etc/new").stat().st_uid == 0
    assert (changes / "lower/odd/owned").stat().st_uid == 4_000_000_000
    assert not list(changes.glob("lower.*"))


@pytest.mark.parametrize("damage", ["blocks", "end"])
def test_damaged_image_is_not_unpacked(tree: Path, tmp_path: Path, configure: Callable[..., None], damage: str) -> None:
    """The error says why. Nothing is left."""
    configure(squashfs="unpack")
    content = bytearray(tree.with_name("rootfs").read_bytes())
    if damage == "end":
        del content[struct.unpack_from("<Q", content, SIZE_FIELD)[0] - 1 :]
    else:
        content[100:1000] = bytes(900)
    rootfs, changes = tmp_path / "rootfs", tmp_path / "changes"
    rootfs.write_bytes(content)
    with pytest.raises(ImsError, match=r"rootfs cannot be unpacked: ."):
        mount_image(rootfs, changes, tmp_path / "root")
    assert [path.name for path in changes.iterdir()] == ["lower"]
    assert not any((changes / "lower").iterdir())


def test_lost_trusted_attributes_are_reported(tree: Path, workspace: Path) -> None:
    """The log names the files of the new image that lose them, those of the old image and changed ones."""

    def change(root: Path) -> None:
        (root / "odd/null").unlink()
        os.setxattr(root / "etc/motd", "trusted.new", b"x")

    lines = customized(tree.with_name("rootfs"), workspace, change)
    lost = [line for line in lines if "trusted" in line]
    assert lost == [
        "WARNING: a sandbox cannot pack attributes with the prefix trusted: 2 files lose theirs: /etc/motd, /odd/link"
    ]


def test_lost_acls_are_reported(tree: Path, workspace: Path) -> None:
    """POSIX ACLs are lost, and the log names the files."""

    def change(root: Path) -> None:
        (root / "etc/motd").write_text("changed\n")
        os.setxattr(root / "etc/motd", "system.posix_acl_access", ACL)
        (root / "var/log").mkdir()
        os.setxattr(root / "var/log", "system.posix_acl_default", ACL)

    lines = customized(tree.with_name("rootfs"), workspace, change)
    lost = [line for line in lines if "ACL" in line]
    assert lost == ["WARNING: a squashfs cannot store POSIX ACLs: 2 files lose theirs: '/etc/motd', '/var/log'"]
