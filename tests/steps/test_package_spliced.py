"""Packing a customized image behind the data of the old one, with the real step in its sandbox."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ims.builder.squashfs import KIWI_FILES, make_rootfs
from ims.cli.pulling import pull
from ims.images.files import LIST as FILES
from ims.images.files import write_files
from ims.runtime.local.process import StepProcess
from ims.runtime.local.runtime import LocalRuntime
from ims.sandbox import box
from ims.sandbox.overlay import Layers, mount_image
from ims.sandbox.view import View
from ims.settings import settings
from ims.steps import fetch_image, upload_artifacts
from ims.steps.artifacts import Batch, PackedArtifact
from ims.steps.origin import Origin
from ims.steps.package_artifacts import STEP
from ims.storage.digests import Digests, digest_file
from ims.storage.manifest import ROOTFS, Artifact, Link, write_manifest
from ims.storage.objects import ObjectName, ObjectStore
from ims.storage.splicing import spliced_chunks
from ims.workspace import Workspace
from tests.images.squashfs.overlays import check_numbers, mounted
from tests.images.squashfs.trees import (
    Change,
    change_attributes,
    change_link_and_remove_it,
    change_much,
    change_nothing,
    change_one,
    noise,
    replace_folder,
    write_tree,
)
from tests.images.trees import snapshot, unmount
from tests.seaweedfs import running

pytestmark = pytest.mark.system

SOURCE = "s3://boot-images/old/rootfs"
Configure = Callable[..., None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rootfs of an image with files of every kind, packed in full."""
    folder = tmp_path_factory.mktemp("base")
    root = folder / "root"
    write_tree(root)
    for name in ("boot", "proc", "root", "run", "sys", "tmp", "etc/ssh"):
        (root / name).mkdir()
    (root / "etc/munge").mkdir()
    for name in ("boot/vmlinuz", "boot/initrd", "root/.netrc", "etc/ssh/ssh_host_rsa_key", "etc/munge/munge.key"):
        (root / name).write_text(f"this is {name}")
    (root / "etc/shadow").write_text("root:$y$old:1::::::\nbin:*:1::::::\n")
    (root / "usr/lib/large").write_bytes(random.randbytes(9 * 1024**2))  # noqa: S311  (no secret)
    make_rootfs(root, folder / "rootfs")
    with mounted(folder / "rootfs", folder / "mounted") as image:
        write_files(image, folder / FILES, KIWI_FILES)
    return folder / "rootfs"


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """The workspace of a job."""
    runtime = LocalRuntime()
    yield Workspace(runtime.open_workspace("spliced", 1))
    runtime.close_workspace("spliced")


@pytest.fixture(autouse=True)
def continue_images(configure: Configure) -> None:
    """The image has secrets on purpose, and may be continued."""
    configure(image_secrets="keep", squashfs_splice=True)


def package(
    rootfs: Path, workspace: Workspace, change: Change, source: str | None = SOURCE
) -> tuple[PackedArtifact, list[str]]:
    """Change an image like a shell, then pack it; returns the artifact and the log."""
    try:
        mount_image(rootfs, workspace.changes, workspace.image_root)
        change(workspace.image_root)
    finally:
        unmount(workspace.root)
    return run(rootfs, workspace, source)


def run(
    rootfs: Path, workspace: Workspace, source: str | None = SOURCE, **fields: bool
) -> tuple[PackedArtifact, list[str]]:
    """Run the step; returns the rootfs and the log. The step leaves no other files than those that it returns."""
    workspace.notes.mkdir(exist_ok=True)
    if (files := rootfs.with_name(FILES)).exists():
        shutil.copyfile(files, workspace.old_files)
    if source is not None:
        workspace.origin.write_text(Origin(rootfs=source).model_dump_json())
    data = {
        **{"workspace": str(workspace.root), "rootfs": str(rootfs), "arch": "x86_64"},
        **{"kernel_file_name": None, "initrd_file_name": "initrd", "kernel_parameters_file_name": "x"},
        **fields,
    }
    lines: list[str] = []
    result = StepProcess().run(STEP, data, "package", lines.append)
    artifacts = [artifact for item in result for artifact in Batch.model_validate(item).artifacts]
    assert {path.name for path in workspace.artifacts.iterdir()} == {artifact.name for artifact in artifacts}
    return artifacts[0], lines


def whole(artifact: PackedArtifact, target: Path) -> Path:
    """The rootfs as it will be in S3, which has the digests of the artifact."""
    if artifact.base is None or artifact.spliced is None:
        shutil.copyfile(artifact.path, target)
    else:
        target.write_bytes(b"".join(spliced_chunks(artifact.base.path, artifact.spliced)))
    assert digest_file(target) == Digests(artifact.size, artifact.md5, artifact.sha256)
    return target


def reasons(lines: list[str]) -> list[str]:
    """Why the rootfs was packed in full."""
    return [line.partition("continued: ")[2] for line in lines if "packed in full" in line]


def is_derived(lines: list[str]) -> bool:
    """Whether the list of files was derived from that of the old image."""
    return any("the list of files is that of the old image with the changes" in line for line in lines)


def compare(rootfs: Path, workspace: Workspace, artifact: PackedArtifact, folder: Path, configure: Configure) -> None:
    """The tree is that of full packing, and so is the list of files."""
    files = (workspace.artifacts / FILES).read_bytes()
    new = whole(artifact, folder / "new")
    configure(squashfs_splice=False)
    packed, lines = run(rootfs, workspace)
    assert packed.base is None
    assert reasons(lines) == ["IMS_SQUASHFS_SPLICE is off"]
    assert (workspace.artifacts / FILES).read_bytes() == files
    assert not is_derived(lines)
    with mounted(whole(packed, folder / "full"), folder / "a") as full, mounted(new, folder / "b") as spliced:
        assert snapshot(spliced) == snapshot(full)
        check_numbers(spliced)


@pytest.mark.parametrize(
    "change", [change_nothing, change_one, replace_folder, change_attributes, change_much, change_link_and_remove_it]
)
def test_tree_is_that_of_full_packing(
    base: Path, workspace: Workspace, tmp_path: Path, configure: Configure, change: Change
) -> None:
    """The file has the changes alone, the digests are those of the whole rootfs."""
    artifact, lines = package(base, workspace, change)
    assert artifact.base is not None, reasons(lines)
    assert (artifact.base.url, artifact.base.path) == (SOURCE, base)
    assert is_derived(lines) == (change not in (change_much, change_link_and_remove_it))  # unusual names, and links
    assert artifact.stored_size == artifact.path.stat().st_size < base.stat().st_size // 2
    compare(base, workspace, artifact, tmp_path, configure)


def test_changes_made_in_a_sandbox(base: Path, workspace: Workspace, tmp_path: Path, configure: Configure) -> None:
    """Owners, capabilities and folders that hide others are what they are after full packing."""
    script = f"""
    cd {workspace.image_root}; echo new > etc/issue; chown 12:34 etc/issue; mv home/a home/moved
    rm -r var/opaque; mkdir -p var/opaque/a; echo 1 > var/opaque/a/f1
    chmod 4755 usr/bin/exact; touch tmp/left usr/bin/can; setcap cap_net_raw=ep usr/bin/can
    """
    view = View((workspace.root,), image=Layers(base, workspace.changes, workspace.image_root))
    subprocess.run(box.command(view, ["sh", "-ec", script]), cwd=workspace.root, check=True)
    artifact, lines = run(base, workspace)
    assert artifact.base is not None, reasons(lines)
    compare(base, workspace, artifact, tmp_path, configure)
    with mounted(tmp_path / "new", tmp_path / "c") as root:
        assert os.getxattr(root / "usr/bin/can", "security.capability")
        assert not (root / "tmp/left").exists()
        assert os.listdir(root / "var/opaque/a") == ["f1"]  # noqa: PTH208
        assert (root / "home/moved").exists()


def remove_login(root: Path) -> None:
    """A secret that the check of images knows."""
    (root / "root/.netrc").unlink()


def replace_key(root: Path) -> None:
    """A host key."""
    (root / "etc/ssh/ssh_host_rsa_key").write_text("other")


def remove_home(root: Path) -> None:
    """The folder of a secret."""
    shutil.rmtree(root / "root")


def remove_munge_key(root: Path) -> None:
    """A key that images may have on purpose."""
    (root / "etc/munge/munge.key").unlink()


def change_password(root: Path) -> None:
    """Its hash."""
    (root / "etc/shadow").write_text("root:$y$new:1::::::\nbin:*:1::::::\n")


def add_user(root: Path) -> None:
    """As many packages do: no hash is lost."""
    (root / "etc/shadow").write_text("root:$y$old:1::::::\nmunge:!:1::::::\n")


def add_history(root: Path) -> None:
    """The check of images removes it again."""
    (root / "root/.bash_history").write_text("export PASSWORD=secret")


def test_job_that_asks_for_full_packing(base: Path, workspace: Workspace, tmp_path: Path) -> None:
    """The bytes of a removed file are not in the new rootfs. Otherwise they are, and the log says so."""
    removed = noise(39 * 9000 + 1, 39)[:100]  # mksquashfs cannot compress it
    artifact, lines = package(base, workspace, lambda root: (root / "usr/lib/x/f39").unlink())
    assert artifact.base is not None
    assert any("can be recovered, unless" in line for line in lines)
    assert removed in whole(artifact, tmp_path / "new").read_bytes()
    artifact, lines = run(base, workspace, pack_in_full=True)
    assert (artifact.base, reasons(lines)) == (None, ["the job sets pack_in_full"])
    assert not any("can be recovered, unless" in line for line in lines)
    assert removed not in whole(artifact, tmp_path / "full").read_bytes()


SECRETS = {
    remove_login: "/root/.netrc (a login) was removed or changed",
    replace_key: "/etc/ssh/ssh_host_rsa_key (a private host key of SSH) was removed or changed",
    remove_home: "/root/.netrc (a login) was removed or changed",
    remove_munge_key: "/etc/munge/munge.key (a key of munge) was removed or changed",
    change_password: "/etc/shadow (the hash of a password) was removed or changed",
    add_history: "secrets were removed",
}


@pytest.mark.parametrize(("change", "reason"), SECRETS.items())
def test_secrets_are_not_in_the_old_data(
    base: Path, workspace: Workspace, configure: Configure, change: Change, reason: str
) -> None:
    """An image that loses a secret is packed in full."""
    if change is add_history:
        configure(image_secrets="remove")
    artifact, lines = package(base, workspace, change)
    assert artifact.base is None
    assert reasons(lines) == [f"{reason}, and could be recovered from it"]


def test_a_new_user_hides_no_secret(base: Path, workspace: Workspace) -> None:
    """The rootfs is continued although a file with hashes of passwords has changed."""
    artifact, lines = package(base, workspace, add_user)
    assert artifact.base is not None, reasons(lines)


def test_from_s3_to_s3(
    base: Path,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The image is fetched, changed, packed and uploaded. S3 then has the rootfs that its digests describe.

    A node with the old image downloads less than one percent of it.
    """
    bucket = settings().images_bucket
    (tmp_path / "s3").mkdir()
    with running(tmp_path / "s3") as s3:
        old, address = ObjectName(bucket, "old/rootfs"), ObjectName(bucket, "old/manifest.yaml")
        stored = s3.store.upload(base, old, {})
        listed = Artifact(type=ROOTFS, md5=digest_file(base).md5, link=Link(path=str(old), etag=stored.etag))
        etag = s3.store.write_bytes(address, write_manifest([listed]).encode())
        monkeypatch.setattr(ObjectStore, "from_environment", lambda: s3.store)
        fetched = Path(fetch_image.run(fetch_image.Input(workspace=workspace.root, path=str(address), etag=etag)))
        artifact, lines = package(fetched, workspace, change_one, source=None)
        assert artifact.base is not None, reasons(lines)
        assert artifact.base.etag == stored.etag
        step = {"image_id": "new", "image_name": "new", "job_id": "j1", "each": Batch(artifacts=[artifact])}
        monkeypatch.setattr(s3.store, "upload", None)
        (uploaded,) = upload_artifacts.run(upload_artifacts.Input(workspace=workspace.root, **step)).artifacts
        digests = s3.store.download(ObjectName(bucket, "new/rootfs"), tmp_path / "new")
        made = ObjectName(bucket, "new/manifest.yaml")
        s3.store.write_bytes(made, write_manifest([uploaded.in_manifest]).encode())
        pull(s3.store, str(address), tmp_path / "node")
        pull(s3.store, str(made), tmp_path / "node", tmp_path / "node")
    assert digests == Digests(uploaded.size, uploaded.md5, uploaded.sha256)
    assert (tmp_path / "new").read_bytes() == whole(artifact, tmp_path / "expected").read_bytes()
    assert (tmp_path / "node" / "rootfs").read_bytes() == (tmp_path / "new").read_bytes()
    downloaded = re.search(r"(\d+) of them downloaded, verified", capsys.readouterr().out)
    assert downloaded is not None
    assert int(downloaded[1]) < uploaded.size / 100
