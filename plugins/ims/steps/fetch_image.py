"""Seed step 4 of customizing: fetch the rootfs that the image's manifest names, and the playbook for it, if any."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from ims.errors import InputError
from ims.recipes import archive
from ims.settings import settings
from ims.shell import ansible
from ims.steps import cache
from ims.steps.step import Step, StepInput
from ims.storage.manifest import MAX_BYTES, ROOTFS, Artifact, read_manifest
from ims.storage.objects import ObjectName, ObjectStore
from ims.workspace import Workspace

log = logging.getLogger(__name__)


class Input(StepInput):
    """`path` is the manifest's S3 address, `playbook` that of an archive with an Ansible playbook."""

    path: str
    playbook: str | None = None


def run(step: Input) -> str:
    """Returns the path of the rootfs, which is kept for the next job on the image; the playbook is in `playbook/`."""
    store = ObjectStore.from_environment()
    if step.playbook is not None:
        fetch_playbook(store, ObjectName.parse(step.playbook), step.workspace)
    return str(fetch_rootfs(store, ObjectName.parse(step.path), step.workspace))


def fetch_playbook(store: ObjectStore, name: ObjectName, workspace: Workspace) -> None:
    """Unpack an archive with `site.yml` at its root. Raises InputError: it is something else."""
    packed = workspace.playbook_archive
    digests = store.download(name, packed)
    log.info("fetched %s: %d bytes, sha256 %s", name, digests.size, digests.sha256)
    own = settings()
    limits = {"max_bytes": own.recipe_max_mib * 1024 * 1024, "max_files": own.recipe_max_files}
    archive.unpack(packed, workspace.playbook, entry=ansible.PLAYBOOK, **limits)
    packed.unlink()


def fetch_rootfs(store: ObjectStore, name: ObjectName, workspace: Workspace) -> Path:
    """The rootfs that the manifest `name` names. Raises InputError: there is not one, or it is damaged."""
    found = read_manifest(store.read_bytes(name, MAX_BYTES), name).of_type(ROOTFS)
    if len(found) != 1:
        raise InputError(f"the manifest {name} has {len(found)} artifacts of the type {ROOTFS}, not one")
    rootfs = cached(store, found[0])
    if cache.claim(rootfs, cache.IMAGES, workspace):
        log.info("%s is here already", found[0].link.path)
        return rootfs
    # Beside its last place, since the workspace is another mount; LocalRuntime.close_workspace removes it.
    fetched = rootfs.with_name(f"{workspace.job_id}.fetched")
    digests = store.download(ObjectName.parse(found[0].link.path), fetched)
    if found[0].md5 and found[0].md5.lower() != digests.md5:
        raise InputError(f"{found[0].link.path} is damaged: its md5 is {digests.md5}, the manifest says {found[0].md5}")
    log.info("fetched %s: %d bytes, sha256 %s", found[0].link.path, digests.size, digests.sha256)
    fetched.replace(rootfs)
    return rootfs


def cached(store: ObjectStore, rootfs: Artifact) -> Path:
    """Where a rootfs is kept: by its checksum, or by its address and etag where the manifest has no checksum."""
    path = rootfs.link.path
    known = rootfs.md5.lower() or f"{path} {store.stat(ObjectName.parse(path)).etag}"
    # The manifest says what it likes: as it stands it could name a file anywhere.
    return cache.folder(cache.IMAGES) / hashlib.sha256(known.encode()).hexdigest()


STEP = Step("fetch_image", Input, run, s3=True)
