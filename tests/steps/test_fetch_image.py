"""Fetching the rootfs of an image from a real S3, and caching it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ims.errors import ImsError, InputError
from ims.settings import settings
from ims.steps.fetch_image import fetch_playbook, fetch_rootfs
from ims.storage import manifest
from ims.storage.objects import ObjectName
from ims.workspace import Workspace
from tests.service import Service

Rootfs = tuple[ObjectName, str, bytes]


@pytest.fixture
def rootfs(service: Service, tmp_path: Path) -> Iterator[Rootfs]:
    """An object with unique content, its md5 and its content."""
    name, content = ObjectName(service.settings.images_bucket, f"test-{uuid4()}/rootfs"), uuid4().bytes
    (tmp_path / "rootfs").write_bytes(content)
    yield name, service.store.upload(tmp_path / "rootfs", name, {}).metadata["md5sum"], content
    service.store.delete_prefix(name.bucket, name.key)


def write(service: Service, rootfs: ObjectName, **fields: Any) -> ObjectName:
    """Write a manifest that lists a rootfs; returns its name."""
    artifact = {"type": manifest.ROOTFS, "link": {"type": "s3", "path": str(rootfs)}, **fields}
    name = ObjectName(rootfs.bucket, f"{rootfs.key}-{uuid4()}.yaml")
    service.store.write_bytes(name, json.dumps({"version": "1.0", "artifacts": [artifact]}).encode())
    return name


def test_fetched_once(service: Service, rootfs: Rootfs, tmp_path: Path) -> None:
    """The rootfs of two images is fetched only once if it is the same."""
    name, md5, content = rootfs
    first = fetch_rootfs(service.store, write(service, name, md5=md5), Workspace(tmp_path))
    assert first.read_bytes() == content
    elsewhere = ObjectName(name.bucket, f"{name.key}-that-is-not-there")
    assert fetch_rootfs(service.store, write(service, elsewhere, md5=md5.upper()), Workspace(tmp_path)) == first


def test_playbook_that_was_replaced(service: Service, rootfs: Rootfs, tmp_path: Path) -> None:
    """A night runs the archive that made an image, and no other."""
    name, _, content = rootfs
    workspace, digest = Workspace(tmp_path), hashlib.sha256(content).hexdigest()
    for sha256 in (None, digest):
        fetch_playbook(service.store, str(name), sha256, workspace)
        assert workspace.playbook_archive.read_bytes() == content
    service.store.write_bytes(name, b"another")
    with pytest.raises(InputError, match="was replaced"):
        fetch_playbook(service.store, str(name), digest, workspace)


def test_without_a_checksum(service: Service, rootfs: Rootfs, tmp_path: Path) -> None:
    """The rootfs is cached until the object changes."""
    name, _, content = rootfs
    image = write(service, name)
    assert fetch_rootfs(service.store, image, Workspace(tmp_path)).read_bytes() == content
    service.store.write_bytes(name, b"another")
    assert fetch_rootfs(service.store, image, Workspace(tmp_path)).read_bytes() == b"another"


@pytest.mark.parametrize("md5", ["0" * 32, "/etc/passwd", "../" * 20 + "etc/passwd", "../images"])
def test_wrong_checksum(service: Service, rootfs: Rootfs, md5: str, tmp_path: Path) -> None:
    """The checksum of a manifest is compared, and never used as a path. A damaged rootfs is not cached."""
    kept = service.settings.home / "cache" / "images"
    before = set(kept.glob("*"))
    with pytest.raises(ImsError, match="is damaged: its md5 is"):
        fetch_rootfs(service.store, write(service, rootfs[0], md5=md5), Workspace(tmp_path))
    assert {path.name for path in set(kept.glob("*")) - before} <= {f"{tmp_path.name}.fetched"}


@pytest.mark.parametrize("damage", [b"evil", b""], ids=["other content", "empty"])
def test_damaged_cache(service: Service, rootfs: Rootfs, tmp_path: Path, damage: bytes) -> None:
    """A cached file that is not what was fetched is not used, but fetched again."""
    name, md5, content = rootfs
    image = write(service, name, md5=md5)
    first = fetch_rootfs(service.store, image, Workspace(tmp_path))
    first.write_bytes(damage)
    assert fetch_rootfs(service.store, image, Workspace(tmp_path)).read_bytes() == content


def test_large_rootfs_is_not_downloaded(
    service: Service, rootfs: Rootfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the size and the limit."""
    monkeypatch.setattr("ims.steps.fetch_image.GIB", 1)
    monkeypatch.setenv("IMS_IMAGE_MAX_GIB", "15")
    settings.cache_clear()
    try:
        with pytest.raises(InputError, match=r"rootfs has 16 bytes, more than the 15 that are allowed"):
            fetch_rootfs(service.store, write(service, rootfs[0]), Workspace(tmp_path))
    finally:
        monkeypatch.undo()
        settings.cache_clear()
