"""Changing an image through an overlay, and listing the changes; with real mounts."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ims.errors import ConfigurationError, InputError
from ims.images.changes import Difference, compare
from ims.images.packages import installed_packages
from ims.sandbox import overlay
from ims.sandbox.overlay import mount_image
from tests.flows.leftovers import loop_devices
from tests.images.trees import unmount

pytestmark = pytest.mark.system

STATUS = """\
Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.1
Description: shell
 Version: 9 is not it.

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: ed
Status: install ok installed
Architecture: all
Version: 1.0
"""


@dataclass(frozen=True)
class Mounted:
    """An image that is mounted writable."""

    rootfs: Path
    changes: Path
    root: Path

    def compare(self) -> Difference:
        """The changes until now."""
        return compare(self.changes / overlay.LOWER, self.changes / overlay.UPPER, self.root)

    def mount(self) -> None:
        """Mount the image."""
        mount_image(self.rootfs, self.changes, self.root)

    def unmount(self) -> None:
        """Unmount the image."""
        unmount(self.root.parent)


def write_tree(root: Path) -> None:
    """An image root with files of every type."""
    for name in ("etc/sub", "usr/bin", "var/lib/dpkg", "old/deep", "tmp"):
        (root / name).mkdir(parents=True)
    for name in ("etc/same", "etc/changed", "etc/removed", "etc/sub/kept", "old/a", "old/deep/b", "usr/bin/tool"):
        (root / name).write_text(f"this is {name}\n")
    os.link(root / "usr/bin/tool", root / "usr/bin/twin")
    (root / "etc/link").symlink_to("same")
    (root / "var/lib/dpkg/status").write_text(STATUS)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)


@pytest.fixture(scope="module")
def squashfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image."""
    folder = tmp_path_factory.mktemp("squashfs")
    write_tree(folder / "root")
    command = ["mksquashfs", str(folder / "root"), str(folder / "rootfs"), "-quiet", "-no-progress"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "rootfs"


@pytest.fixture
def image(squashfs: Path, tmp_path: Path) -> Iterator[Mounted]:
    """The small image, mounted."""
    mounted = Mounted(squashfs, tmp_path / "changes, all: of them", tmp_path / "root")
    mounted.mount()
    yield mounted
    mounted.unmount()


def test_nothing_changed(image: Mounted) -> None:
    """Reading files, copying them up and restoring them are no changes, nor is anything in /tmp."""
    subprocess.run(["chmod", "600", image.root / "etc/same"], check=True)
    subprocess.run(["chmod", "644", image.root / "etc/same"], check=True)
    (image.root / "tmp" / "complete").touch()
    (image.root / "etc" / "short-lived").touch()
    (image.root / "etc" / "short-lived").unlink()
    assert (image.changes / overlay.UPPER / "etc" / "same").exists()
    assert image.compare() == Difference()
    assert image.compare().summary().files_added.count == 0


def test_files(image: Mounted) -> None:
    """Files that are added or removed, or changed in content, mode, owner, attributes or type."""
    root = image.root
    (root / "etc/changed").write_text("new\n")
    (root / "etc/removed").unlink()
    (root / "etc/sub").chmod(0o700)
    os.setxattr(root / "etc/same", "user.note", b"x")
    os.chown(root / "etc/link", 5, 6, follow_symlinks=False)
    (root / "usr/new/folder").mkdir(parents=True)
    (root / "usr/new/file").write_text("x")
    shutil.rmtree(root / "old/deep")
    (root / "old/deep").write_text("a file now")
    assert image.compare() == Difference(
        files_added=["/old/deep", "/usr/new/", "/usr/new/file", "/usr/new/folder/"],
        files_changed=["/etc/changed", "/etc/link", "/etc/same", "/etc/sub/"],
        files_removed=["/etc/removed", "/old/deep/", "/old/deep/b"],
    )


def test_folder_is_replaced(image: Mounted) -> None:
    """A new folder with the name of an old one hides the content of the old one."""
    old = image.root / "old"
    shutil.rmtree(old)
    (old / "deep").mkdir(parents=True)
    (old / "c").write_text("c")
    found = image.compare()
    assert found.files_added == ["/old/c"]
    assert found.files_removed == ["/old/deep/b", "/old/a"]


def test_names_are_one_line_of_text(image: Mounted) -> None:
    """They are, whatever bytes they consist of."""
    os.close(os.open(os.fsencode(image.root) + b"/etc/\xff\nx", os.O_CREAT))
    (image.root / "etc" / "naïve name").touch()
    assert list(image.compare().lines()) == ["file added: /etc/naïve name", r"file added: /etc/\\xff\nx"]


def test_summary_is_short(image: Mounted) -> None:
    """A record contains the first names, the list contains all."""
    for number in range(50):
        (image.root / f"etc/{number:02}").touch()
    found = image.compare()
    assert found.summary().files_added.count == 50
    assert found.summary().files_added.first == [f"/etc/{number:02}" for number in range(20)]
    assert len(list(found.lines())) == 50


def test_packages_of_dpkg(image: Mounted) -> None:
    """Added, removed and upgraded packages. A package with only its configuration left is not installed."""
    status = image.root / "var/lib/dpkg/status"
    text = STATUS.replace("Version: 5.1", "Version: 5.2").replace("Package: ed", "Package: vim")
    status.write_text(text)
    found = image.compare()
    assert found.packages_added == ["vim:all 1.0"]
    assert found.packages_removed == ["ed:all 1.0"]
    assert found.packages_upgraded == ["bash:amd64 5.1 -> 5.2"]
    assert "package upgraded: bash:amd64 5.1 -> 5.2" in list(found.lines())


def test_damaged_packages(image: Mounted) -> None:
    """If the packages of one side are unknown, so are their changes. Those of files are known."""
    (image.root / "var/lib/dpkg/status").write_text("Version: 1\n")
    found = image.compare()
    summary = found.summary()
    assert (summary.packages_added, summary.packages_removed, summary.packages_upgraded) == (None, None, None)
    assert summary.files_changed.first == ["/var/lib/dpkg/status"]
    assert list(found.lines())[-1].startswith("packages unknown: /var/lib/dpkg/status is damaged")


def test_packages_of_rpm(tmp_path: Path) -> None:
    """The host's rpm reads them, and the database of the image is not changed."""
    spec = tmp_path / "p.spec"
    spec.write_text(
        "Name: tiny\nVersion: 1.5\nRelease: 2\nEpoch: 3\nSummary: s\nLicense: x\nBuildArch: noarch\n"
        "%description\nd\n%files\n"
    )
    subprocess.run(["rpmbuild", "-bb", "--quiet", "-D", f"_topdir {tmp_path}", spec], check=True, capture_output=True)
    root = tmp_path / "root"
    database = root / "usr/lib/sysimage/rpm"
    database.mkdir(parents=True)
    package = next(tmp_path.glob("RPMS/*/*.rpm"))
    command = ["rpm", "--dbpath", str(database), "--install", "--justdb", "--nodeps", str(package)]
    subprocess.run(command, check=True, capture_output=True)
    before = {path.name: path.stat().st_mtime_ns for path in database.iterdir()}
    assert installed_packages(root) == {"tiny.noarch": "3:1.5-2"}
    assert {path.name: path.stat().st_mtime_ns for path in database.iterdir()} == before


def test_changes_are_kept(image: Mounted) -> None:
    """They are visible again after everything was unmounted, as after a crash."""
    (image.root / "etc/changed").write_text("kept\n")
    image.unmount()
    assert not (image.root / "etc").exists()
    image.mount()
    image.mount()
    assert (image.root / "etc/changed").read_text() == "kept\n"


def test_hard_links_stay_links(image: Mounted) -> None:
    """A change through one name is visible through the other."""
    with (image.root / "usr/bin/tool").open("a") as file:
        file.write("more")
    assert (image.root / "usr/bin/twin").read_text().endswith("more")
    assert (image.root / "usr/bin/tool").stat().st_nlink == 2


def test_folders_can_be_renamed(image: Mounted) -> None:
    """Only with `redirect`. They are also renamed in the next mount."""
    with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
        (image.root / "old").rename(image.root / "new")
    image.unmount()
    mount_image(image.rootfs, image.changes, image.root, redirect=True)
    (image.root / "old").rename(image.root / "new")
    image.unmount()
    mount_image(image.rootfs, image.changes, image.root, redirect=True)
    assert not (image.root / "old").exists()
    assert (image.root / "new/deep/b").read_text() == "this is old/deep/b\n"


def test_changes_are_mounted_once(
    image: Mounted, squashfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two mounts of one upper folder would damage it."""
    monkeypatch.setattr(overlay, "_UNMOUNT_SECONDS", 0.3)
    with pytest.raises(overlay.BusyError, match="already mounted"):
        mount_image(squashfs, image.changes, tmp_path / "other")


def test_no_squashfs(tmp_path: Path) -> None:
    """The error names the file."""
    rootfs = tmp_path / "rootfs"
    rootfs.write_text("hello")
    with pytest.raises(InputError, match="not a squashfs"):
        mount_image(rootfs, tmp_path / "changes", tmp_path / "root")


def test_damaged_squashfs(tmp_path: Path) -> None:
    """The error states what the machine must support."""
    rootfs = tmp_path / "rootfs"
    rootfs.write_bytes(b"hsqs" + bytes(8192))
    with pytest.raises(ConfigurationError, match="Use a machine with loop devices and the squashfs file system"):
        mount_image(rootfs, tmp_path / "changes", tmp_path / "root")
    assert str(rootfs) not in "".join(loop_devices())
