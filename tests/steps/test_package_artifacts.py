"""Making the artifacts of an image root with the real mksquashfs."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ims.builder import customization
from ims.builder.splicing import HEAD
from ims.builder.squashfs import make_rootfs
from ims.errors import ImsError, InputError, PermanentError
from ims.files import file_digest
from ims.images.sbom import read_sbom
from ims.steps import package_artifacts
from ims.steps.artifacts import LITTLE, Base, PackedArtifact, batches
from ims.steps.origin import Origin
from ims.steps.package_artifacts import Input, boot_files, run
from ims.storage import manifest
from ims.storage.splicing import MIN_KEPT
from ims.workspace import Workspace
from tests.images.rpm_databases import build_packages, make_database
from tests.images.trees import snapshot
from tests.replays.test_customization import MADE

TIME = 1_700_000_000
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep
IN_USE = ("dev", "proc", "run", "sys", "tmp")
KIWIS_OWN = ("image", ".profile", ".kconfig")

Configure = Callable[..., None]


def write_root(root: Path) -> Path:
    """An image root with files of every type that a file system can store."""
    noise = random.Random(1)  # noqa: S311  (only has to be incompressible)
    for number in range(60):
        path = root / "usr" / "lib" / f"library-{number}.so"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise.randbytes(number * 2000) + bytes(number * 1000))
    for name in ("boot", "etc", "usr/bin", "usr/share/image", "var/empty", *IN_USE, "image"):
        (root / name).mkdir(parents=True)
    for name in (
        ".profile",
        ".kconfig",
        "image/config.xml",
        *(f"{folder}/{dot}x" for folder in IN_USE for dot in ("", ".")),
    ):
        (root / name).write_text("left by the build")
    (root / "usr/share/image/logo").write_text("not kiwi's")
    (root / "etc" / "naïve name").write_text("x")
    (root / "usr/bin/sudo").write_text("x")
    (root / "usr/bin/sudo").chmod(0o4755)
    (root / "usr/bin/ping").write_text("x")
    os.setxattr(root / "usr/bin/ping", "security.capability", CAPABILITY)
    os.setxattr(root / "etc", "user.note", b"kept")
    os.link(root / "usr/bin/ping", root / "usr/bin/ping6")
    (root / "var/empty").chmod(0o1777)
    (root / "etc/hostname").symlink_to("/run/hostname")
    os.mknod(root / "etc/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(root / "etc/pipe")
    os.lchown(root / "etc/hostname", 12, 34)
    os.chown(root / "var/empty", 1234, 65534)
    (root / "boot/vmlinuz-6.1").write_text("kernel")
    (root / "boot/initrd-6.1").write_text("initrd")
    (root / "boot/vmlinuz").symlink_to("vmlinuz-6.1")
    (root / "boot/initrd").symlink_to("/boot/initrd-6.1")
    for path in (*root.rglob("*"), root):
        os.utime(path, (TIME, TIME), follow_symlinks=False)
    return root


def unpacked(rootfs: Path) -> dict[str, tuple[Any, ...]]:
    """The files of a rootfs."""
    target = rootfs.with_suffix(".unpacked")
    subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-dest", target, rootfs], check=True, capture_output=True)
    return snapshot(target)


def step(workspace: Path, **fields: Any) -> Input:
    """The input of the step with the defaults of a job."""
    defaults: dict[str, Any] = {
        "arch": "x86_64",
        "kernel_file_name": None,
        "initrd_file_name": "initrd",
        "kernel_parameters_file_name": "kernel-parameters",
    }
    return Input(workspace=workspace, **{**defaults, **fields})


# The rootfs


@pytest.mark.system
def test_rootfs_contains_the_tree(tmp_path: Path) -> None:
    """Modes, owners, devices, links, extended attributes and times of everything except what the build left there."""
    root = write_root(tmp_path / "root")
    make_rootfs(root, tmp_path / "rootfs")
    left_out = {
        name
        for name in snapshot(root)
        if name.split("/")[0] in KIWIS_OWN or (name.split("/")[0] in IN_USE and "/" in name)
    }
    assert len(left_out) == 4 + 2 * len(IN_USE)
    assert unpacked(tmp_path / "rootfs") == {
        name: entry for name, entry in snapshot(root).items() if name not in left_out
    }


@pytest.mark.system
def test_same_tree_gives_the_same_bytes(tmp_path: Path, configure: Configure) -> None:
    """The folder, the time and the number of processors have no effect."""
    first, second = write_root(tmp_path / "first"), tmp_path / "second"
    subprocess.run(["cp", "-a", first, second], check=True)
    configure(squashfs_processors=1)
    make_rootfs(first, tmp_path / "first.squashfs")
    configure(squashfs_processors=4)
    make_rootfs(second, tmp_path / "second.squashfs")
    assert (tmp_path / "first.squashfs").read_bytes() == (tmp_path / "second.squashfs").read_bytes()
    (second / "usr/lib/library-9.so").write_text("other")
    make_rootfs(second, tmp_path / "second.squashfs")
    assert (tmp_path / "first.squashfs").read_bytes() != (tmp_path / "second.squashfs").read_bytes()


@pytest.mark.system
def test_compression_level_is_that_of_the_setting(tmp_path: Path, configure: Configure) -> None:
    """The file states it."""
    configure(squashfs_level=3)
    make_rootfs(write_root(tmp_path / "root"), tmp_path / "rootfs")
    show = ["unsquashfs", "-s", str(tmp_path / "rootfs")]
    text = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    assert "Compression zstd" in text
    assert "compression-level 3" in text


@pytest.mark.system
def test_error_of_mksquashfs(tmp_path: Path) -> None:
    """The error contains its last line."""
    (tmp_path / "root").mkdir()
    with pytest.raises(ImsError, match="mksquashfs ended with exit code 1: Could not create destination file"):
        make_rootfs(tmp_path / "root", tmp_path / "nowhere" / "rootfs")


# The boot files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image root with an empty `/boot`."""
    (tmp_path / "image-root" / "boot").mkdir(parents=True)
    return tmp_path / "image-root"


def write(root: Path, **files: str) -> None:
    """Write files below a root. `__` stands for a slash, `_` for a dash, and `->` makes a link to the rest."""
    for key, content in files.items():
        path = root / key.replace("__", "/").replace("_", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("->"):
            path.symlink_to(content.removeprefix("->"))
        else:
            path.write_text(content)


def test_boot_files_are_found_through_links(root: Path) -> None:
    """Absolute links refer to the image, and /boot itself may be a link."""
    (root / "boot").rmdir()
    write(root, boot="->/usr/lib/boot", usr__lib__boot__k="kernel", usr__lib__boot__vmlinuz="->k")
    write(root, usr__lib__boot__initrd="->/boot/i", usr__lib__boot__i="initrd")
    found = boot_files(root, step(root.parent))
    assert {name: path.read_text() for name, path in found.items()} == {"kernel": "kernel", "initrd": "initrd"}


@pytest.mark.parametrize(
    ("arch", "fields", "kernel"),
    [
        ("x86_64", {}, "vmlinuz"),
        ("aarch64", {}, "Image"),
        ("aarch64", {"kernel_file_name": "my-kernel"}, "my-kernel"),
        ("x86_64", {"kernel_file_name": "vmlinuz 6.1~rc1"}, "vmlinuz 6.1~rc1"),
    ],
)
def test_name_of_the_kernel(root: Path, arch: str, fields: dict[str, str], kernel: str) -> None:
    """It depends on the architecture, unless the job sets it."""
    for name in ("vmlinuz", "Image", "my-kernel", "vmlinuz 6.1~rc1", "initrd"):
        (root / "boot" / name).write_text(name)
    assert boot_files(root, step(root.parent, arch=arch, **fields))["kernel"].name == kernel


def test_kernel_parameters_are_optional(root: Path) -> None:
    """The file has the name that the job sets."""
    write(root, boot__vmlinuz="k", boot__initrd="i", boot__cmdline="quiet")
    assert "boot_parameters" not in boot_files(root, step(root.parent))
    found = boot_files(root, step(root.parent, kernel_parameters_file_name="cmdline"))
    assert found["boot_parameters"].read_text() == "quiet"


MISSING = {
    "no kernel": ({"boot__initrd": "i", "boot__vmlinux": "k"}, "no /boot/vmlinuz; /boot has initrd, vmlinux"),
    "no initrd": ({"boot__vmlinuz": "k"}, "no /boot/initrd; /boot has vmlinuz"),
    "nothing": ({}, "no /boot/vmlinuz; /boot has nothing"),
    "a link to nothing": ({"boot__vmlinuz": "->gone"}, "no /boot/vmlinuz; /boot has vmlinuz"),
    "a link out of the image": ({"boot__vmlinuz": "->/etc/hostname"}, "no /boot/vmlinuz; /boot has vmlinuz"),
    "a folder": ({"boot__vmlinuz__x": "k"}, "no /boot/vmlinuz; /boot has vmlinuz"),
}


@pytest.mark.parametrize(("files", "reason"), MISSING.values(), ids=MISSING)
def test_missing_boot_file(root: Path, files: dict[str, str], reason: str) -> None:
    """The error names the file, the files that exist, and the field that could name another one."""
    write(root, **files)
    with pytest.raises(InputError) as caught:
        boot_files(root, step(root.parent))
    assert caught.value.reason == f"the image has {reason}"
    assert ("kernel_file_name" in caught.value.hint) == ("vmlinuz;" in reason)


def test_image_without_boot(root: Path) -> None:
    """The error says that /boot is empty."""
    shutil.rmtree(root / "boot")
    with pytest.raises(InputError, match="/boot has nothing"):
        boot_files(root, step(root.parent))


# The whole step


@pytest.mark.system
def test_step_describes_its_artifacts(tmp_path: Path) -> None:
    """Name, type, path, size and checksums. Files of an earlier try are removed."""
    write_root(tmp_path / "image-root")
    (tmp_path / "image-root/boot/kernel-parameters").write_text("quiet\n")
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "half").touch()
    (batch,) = run(step(tmp_path))
    result = batch.artifacts
    assert {item.name: item.type.removeprefix("application/vnd.") for item in result} == {
        "rootfs": "cray.image.rootfs.squashfs",
        "kernel": "cray.image.kernel",
        "initrd": "cray.image.initrd",
        "boot_parameters": "cray.image.parameters.boot",
        "sbom.cdx.json": "cyclonedx+json",
        "files.jsonl.gz": "ims.image.files",
    }
    for item in result:
        data = (tmp_path / "artifacts" / item.name).read_bytes()
        assert item.path == tmp_path / "artifacts" / item.name
        assert item.size == len(data)
        assert item.sha256 == hashlib.sha256(data).hexdigest()
        assert item.md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert len(list((tmp_path / "artifacts").iterdir())) == len(result)


@pytest.mark.system
@pytest.mark.parametrize("damaged", [False, True], ids=["complete", "damaged"])
def test_packages_of_an_image_like_those_of_suse(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], *, damaged: bool
) -> None:
    """Their database is read in the sandbox, and not changed. If it cannot be read, the SBOM and the log say why."""
    folder = write_root(tmp_path / "image-root") / "usr/lib/sysimage/rpm"
    database = make_database(folder, "ndb", build_packages(tmp_path))
    if damaged:
        database.write_bytes(database.read_bytes()[:5000])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run(step(tmp_path))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    found, log = read_sbom((tmp_path / "artifacts/sbom.cdx.json").read_bytes(), "x"), capfd.readouterr().out
    assert (found.packages is None, bool(found.unknown)) == (damaged, damaged)
    assert [package.name for package in found.packages or ()] == ([] if damaged else ["munge", "openssl", "sysroot"])
    assert ("the packages of the image are unknown: the ndb database" in log) == damaged


@pytest.mark.system
def test_list_of_files_matches_the_rootfs(tmp_path: Path) -> None:
    """The same files are excluded from both."""
    write_root(tmp_path / "image-root")
    run(step(tmp_path))
    with gzip.open(tmp_path / "artifacts/files.jsonl.gz", "rt") as lines:
        listed = {json.loads(line)["path"].lstrip("/") for line in lines}
    assert listed == set(unpacked(tmp_path / "artifacts/rootfs")) - {"."}


# What the sandbox returns


BASE = {"url": "s3://boot-images/old/rootfs", "kept": MIN_KEPT, "head": HEAD}
WRONG_BASES: dict[str, dict[str, Any]] = {
    "another object": {"url": "s3://boot-images/other/rootfs"},
    "another file": {"path": Path("/etc/shadow")},
    "more than there is": {"kept": 2 * MIN_KEPT},
    "less than S3 can copy": {"kept": MIN_KEPT - 1},
    "another head": {"head": HEAD + 1},
    "an ETag that is not the recorded one": {"etag": "0" * 32},
}


@pytest.mark.parametrize("wrong", [{}, *WRONG_BASES.values()], ids=["right", *WRONG_BASES])
def test_base_of_the_rootfs_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]) -> None:
    """The sandbox can only have the new rootfs continue that of the image that is customized."""
    workspace = Workspace(tmp_path)
    old, new = tmp_path / "old", workspace.artifacts / "rootfs"
    for path, size in ((old, MIN_KEPT + 1), (new, HEAD + 5)):
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
    workspace.notes.mkdir()
    base = Base(**{"path": old, **BASE, **wrong})
    rootfs = PackedArtifact(
        **{"name": "rootfs", "type": manifest.ROOTFS, "path": new, "md5": "", "sha256": "", "base": base},
        size=HEAD + 5 + base.kept - base.head,
    )
    origin = Origin(rootfs=str(BASE["url"]))
    packing = package_artifacts.Packing(**dict(step(tmp_path, rootfs=old)), origin=origin, opaque=[])
    if not wrong:
        package_artifacts.check_result([rootfs], packing)
        return
    with pytest.raises(PermanentError, match="an artifact that it did not make"):
        package_artifacts.check_result([rootfs], packing)


@pytest.mark.parametrize("replaced_by", [None, "a file", "a link"])
def test_playbook_is_kept(tmp_path: Path, replaced_by: str | None) -> None:
    """The archive becomes an artifact, unless a program of the job replaced it after it ran."""
    workspace = Workspace(tmp_path)
    workspace.playbook_archive.write_text("a playbook")
    customization.note(workspace, MADE.model_copy(update={"playbook": file_digest(workspace.playbook_archive)}))
    if replaced_by is not None:
        workspace.playbook_archive.unlink()
        if replaced_by == "a link":
            workspace.playbook_archive.symlink_to("/dev/zero")
        else:
            workspace.playbook_archive.write_text("another playbook")
        with pytest.raises(PermanentError, match="replaced the archive"):
            package_artifacts.kept_inputs(workspace)
        return
    kept = package_artifacts.kept_inputs(workspace)
    assert [(item.name, item.type) for item in kept] == [
        ("customization.json", manifest.CUSTOMIZATION),
        ("playbook.tar.gz", manifest.PLAYBOOK),
    ]


@pytest.mark.parametrize(("size", "names"), [(20, [["rootfs", "kernel"]]), (LITTLE - 10, [["rootfs"], ["kernel"]])])
def test_batches(tmp_path: Path, size: int, names: list[list[str]]) -> None:
    """The rootfs of a large image is uploaded at the same time as its other artifacts; a small one has one task."""
    fields = {"type": "t", "md5": "", "sha256": ""}
    rootfs = PackedArtifact(name="rootfs", path=tmp_path / "rootfs", size=size, **fields)
    kernel = PackedArtifact(name="kernel", path=tmp_path / "kernel", size=10, **fields)
    found = batches([rootfs, kernel])
    assert [[artifact.name for artifact in batch.artifacts] for batch in found] == names
