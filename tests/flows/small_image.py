"""Images that are registered without a build, for tests that use images."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from ims.storage import manifest
from ims.storage.manifest import Artifact, Link
from ims.storage.objects import ObjectName
from tests.service import Service
from tests.shell.small_image import pack, write_root


def small_image(service: Service, folder: Path) -> dict[str, Any]:
    """Register an image of 2 MB with a fake kernel and initrd; returns the record."""
    root = write_root(folder / "root")
    (root / "boot").mkdir()
    for name in ("vmlinuz", "initrd"):
        (root / "boot" / name).write_text(name)
    return register(service, pack(root, folder / "rootfs"), root / "boot" / "vmlinuz", root / "boot" / "initrd")


def register(service: Service, rootfs: Path, kernel: Path, initrd: Path) -> dict[str, Any]:
    """Upload the files of an image and register it; returns the record."""
    bucket, folder = service.settings.images_bucket, str(uuid4())
    uploaded = []
    kinds = {"rootfs": manifest.ROOTFS, "kernel": manifest.KERNEL, "initrd": manifest.INITRD}
    for (name, kind), path in zip(kinds.items(), (rootfs, kernel, initrd), strict=True):
        place = ObjectName(bucket, f"{folder}/{name}")
        stored = service.store.upload(path, place, {})
        uploaded.append(
            Artifact(type=kind, md5=stored.metadata["md5sum"], link=Link(path=str(place), etag=stored.etag))
        )
    place = ObjectName(bucket, f"{folder}/{manifest.MANIFEST_NAME}")
    service.store.write_bytes(place, manifest.write_manifest(uploaded).encode())
    address = {"type": "s3", "path": str(place)}
    return dict(service.client.create("images", name=f"small-{folder[:8]}", link=address))
