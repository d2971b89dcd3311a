"""Fetches the rootfs of the image that is to be customized, and the Ansible playbook, if there is one."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from ims import cache
from ims.errors import InputError
from ims.files import file_digest
from ims.settings import settings
from ims.steps import origin
from ims.steps.fetch_recipe import download
from ims.steps.step import Step, StepInput
from ims.storage.manifest import MAX_BYTES, ROOTFS, Artifact, Manifest, read_manifest
from ims.storage.objects import ObjectName, ObjectStore
from ims.storage.sessions import Grant, reading
from ims.workspace import Workspace

log = logging.getLogger(__name__)

GIB = 1024**3


class Input(StepInput):
    """`path` is the S3 address of the image's manifest, `playbook` that of an archive with an Ansible playbook.

    `etag` is that of the manifest if a job of this service wrote it, `playbook_sha256` is the digest that the archive
    must have.
    """

    path: str
    etag: str | None = None
    playbook: str | None = None
    playbook_sha256: str | None = None


def run(step: Input) -> str:
    """Fetches the archive of the playbook, and the rootfs to the cache; returns the path of the rootfs.

    Raises InputError if the archive has another digest than it must have.
    """
    store = ObjectStore.from_environment()
    if step.playbook is not None:
        fetch_playbook(store, step.playbook, step.playbook_sha256, step.workspace)
    return str(fetch_rootfs(store, ObjectName.parse(step.path, settings().buckets), step.workspace, step.etag))


def fetch_playbook(store: ObjectStore, address: str, sha256: str | None, workspace: Workspace) -> None:
    """Fetch the archive of the playbook. Raises InputError if it has another SHA-256 than the given one."""
    download(store, address, workspace.playbook_archive)
    found = file_digest(workspace.playbook_archive)
    if sha256 not in (None, found):
        raise InputError(f"{address} was replaced: its SHA-256 is {found}, not {sha256}")


def fetch_rootfs(store: ObjectStore, name: ObjectName, workspace: Workspace, etag: str | None = None) -> Path:
    """Fetch the rootfs that the manifest `name` lists, unless it is cached, and claim it for the workspace.

    Also notes what S3 has of the image. `etag` is that of the manifest if this service wrote it.
    Raises InputError if the manifest does not list exactly one rootfs, or if the rootfs is damaged or too large.
    """
    data = store.read_bytes(name, MAX_BYTES)
    manifest = read_manifest(data, name, settings().buckets)
    source = _rootfs(manifest, name)
    key = cache_key(store, source)
    rootfs = _cached(key, workspace) or _fetch(store, source, key, workspace)
    origin.note(store, origin.origin_of(source, data, manifest, etag), workspace)
    return rootfs


def _cached(key: str, workspace: Workspace) -> Path | None:
    """Claim the cached file with this key, if there is one and it is what was fetched.

    The digest in its name is compared each time: SHA-256 reads more than a gigabyte per second, and the mount needs
    the file in memory anyway.
    """
    for rootfs in cache.folder(cache.IMAGES).glob(f"{key}.*"):
        if not cache.claim(rootfs, cache.IMAGES, workspace):
            continue
        if file_digest(rootfs) == rootfs.name.partition(".")[2]:
            log.info("%s is in the cache", rootfs.name)
            return rootfs
        log.warning("the cached image %s is damaged: it is fetched again", rootfs)
        rootfs.unlink(missing_ok=True)
    return None


def _fetch(store: ObjectStore, source: Artifact, key: str, workspace: Workspace) -> Path:
    """Download a rootfs to the cache and claim it. Raises InputError if it is damaged or too large."""
    # In the folder of the cache because the workspace is another mount. LocalRuntime.close_workspace removes the file.
    folder = cache.folder(cache.IMAGES)
    folder.mkdir(parents=True, exist_ok=True)
    fetched = folder / f"{workspace.job_id}.fetched"
    limit = settings().image_max_gib * GIB
    digests = store.download(ObjectName.parse(source.link.path), fetched, limit=limit)
    if source.md5 and source.md5.lower() != digests.md5:
        raise InputError(
            f"{source.link.path} is damaged: its md5 is {digests.md5}, the manifest says {source.md5}",
            "Upload it again, or use another image",
        )
    log.info("fetched %s: %d bytes, sha256 %s", source.link.path, digests.size, digests.sha256)
    rootfs = folder / f"{key}.{digests.sha256}"
    cache.claim(rootfs, cache.IMAGES, workspace)
    fetched.replace(rootfs)
    return rootfs


def read_rootfs(store: ObjectStore, name: ObjectName) -> Artifact:
    """Returns the rootfs that the manifest `name` lists. Raises InputError unless it lists exactly one."""
    return _rootfs(read_manifest(store.read_bytes(name, MAX_BYTES), name, settings().buckets), name)


def _rootfs(manifest: Manifest, name: ObjectName) -> Artifact:
    found = manifest.of_type(ROOTFS)
    if len(found) != 1:
        raise InputError(
            f"the manifest {name} lists {len(found)} artifacts of type {ROOTFS}, but must list one",
            "Correct the manifest, or use another image",
        )
    return found[0]


def cache_key(store: ObjectStore, rootfs: Artifact) -> str:
    """The key of a rootfs in the cache, from its checksum. Without a checksum, address and etag take its place."""
    path = rootfs.link.path
    identity = rootfs.md5.lower() or f"{path} {store.stat(ObjectName.parse(path)).etag}"
    # A hash, because a hostile manifest could otherwise name any file as its checksum.
    return hashlib.sha256(identity.encode()).hexdigest()


def key_of(rootfs: Path) -> str:
    """The key of a fetched rootfs."""
    return rootfs.name.partition(".")[0]


def grants(step: Input, store: ObjectStore) -> list[Grant]:
    """The step reads the manifest, its rootfs, its list of files and the playbook.

    Raises MissingError or InputError, as the step does.
    """
    buckets = settings().buckets
    name = ObjectName.parse(step.path, buckets)
    data = store.read_bytes(name, MAX_BYTES)
    manifest = read_manifest(data, name, buckets)
    rootfs = _rootfs(manifest, name)
    files = origin.origin_of(rootfs, data, manifest, step.etag).files
    lists = [ObjectName.parse(files.link.path)] if files is not None else []
    names = [ObjectName.parse(rootfs.link.path)]
    names += [ObjectName.parse(step.playbook, buckets)] if step.playbook is not None else []
    for needed in names:
        store.stat(needed)
    return [reading([name, *names, *lists])]


STEP = Step("fetch_image", Input, run, s3=grants, begins=True)
