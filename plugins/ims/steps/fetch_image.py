"""Seed step 4 of customizing: fetch the rootfs that the image's manifest names."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from ims.errors import InputError
from ims.settings import settings
from ims.steps.step import Step, StepInput
from ims.storage.manifest import MAX_BYTES, ROOTFS, Artifact, read_manifest
from ims.storage.objects import ObjectName, ObjectStore

log = logging.getLogger(__name__)


class Input(StepInput):
    """`path` is the manifest's S3 address."""

    path: str


def run(step: Input) -> str:
    """Returns the path of the rootfs, which is kept for the next customization of the same image."""
    store, name = ObjectStore.from_environment(), ObjectName.parse(step.path)
    found = read_manifest(store.read_bytes(name, MAX_BYTES), name).of_type(ROOTFS)
    if len(found) != 1:
        raise InputError(f"the manifest {name} has {len(found)} artifacts of the type {ROOTFS}, not one")
    rootfs = cached(found[0])
    if rootfs.exists():
        log.info("%s is here already", found[0].link.path)
        return str(rootfs)
    rootfs.parent.mkdir(parents=True, exist_ok=True)
    # Beside its last place, since the workspace is another mount; LocalRuntime.close_workspace removes it.
    fetched = rootfs.with_name(f"{step.workspace.name}.fetched")
    digests = store.download(ObjectName.parse(found[0].link.path), fetched)
    if found[0].md5 and found[0].md5.lower() != digests.md5:
        raise InputError(f"{found[0].link.path} is damaged: its md5 is {digests.md5}, the manifest says {found[0].md5}")
    log.info("fetched %s: %d bytes, sha256 %s", found[0].link.path, digests.size, digests.sha256)
    fetched.replace(rootfs)
    return str(rootfs)


def cached(rootfs: Artifact) -> Path:
    """Where a rootfs is kept: by its checksum, or by its address and etag where the manifest has no checksum."""
    key = rootfs.md5.lower() or hashlib.sha256(f"{rootfs.link.path} {rootfs.link.etag}".encode()).hexdigest()
    return settings().home / "cache" / "images" / key


STEP = Step("fetch_image", Input, run, s3=True)
