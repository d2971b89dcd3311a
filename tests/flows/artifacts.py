"""Downloads artifacts of an image from S3 and unpacks them."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import yaml

from ims.storage.objects import ObjectName
from tests.service import Service

MEDIA_TYPES = {
    "application/vnd.cray.image.rootfs.squashfs": "rootfs",
    "application/vnd.cray.image.kernel": "kernel",
    "application/vnd.cray.image.initrd": "initrd",
    "application/vnd.cray.image.parameters.boot": "boot_parameters",
    "text/vnd.ims.image.changes": "changes.txt",
    "application/vnd.ims.image.customization+json": "customization.json",
    "application/vnd.ims.image.playbook+gzip": "playbook.tar.gz",
    "application/vnd.ims.image.capture+gzip": "capture.tar.gz",
    "application/vnd.ims.image.provenance+json": "provenance.json",
    "application/vnd.cyclonedx+json": "sbom.cdx.json",
    "application/vnd.ims.image.files": "files.jsonl.gz",
}


def fetch(service: Service, image: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Download the artifacts of an image and check their checksums; returns the files by their names."""
    name = ObjectName.parse(image["link"]["path"])
    assert service.store.stat(name).etag == image["link"]["etag"]
    data = service.store.read_bytes(name, limit=1024 * 1024)
    manifest = yaml.safe_load(data)
    assert manifest["version"] == "1.0"
    found = {}
    for artifact in manifest["artifacts"]:
        path = folder / MEDIA_TYPES[artifact["type"]]
        link = artifact["link"]
        assert link["path"] == f"s3://{service.settings.images_bucket}/{image['id']}/{path.name}"
        service.store.download(ObjectName.parse(link["path"]), path)
        stored = service.store.stat(ObjectName.parse(link["path"]))
        assert stored.etag == link["etag"]
        assert stored.metadata["x-shasta-ims-image-id"] == image["id"]
        assert stored.metadata["x-shasta-ims-job-id"] == image["job_id"]
        assert hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == artifact["md5"]
        found[path.name] = path
    return found


def unpack(rootfs: Path, folder: Path) -> Path:
    """Unpack a rootfs; returns its root."""
    subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-d", folder, rootfs], check=True)
    return folder
