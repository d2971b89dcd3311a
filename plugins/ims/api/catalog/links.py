"""The rules for links: the object exists in one of our buckets, the manifest is complete, a link never changes."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ims.api.errors import ConflictError, FieldError, UnusableError
from ims.api.http.schemas import ArtifactLink
from ims.errors import InputError, MissingError
from ims.images.inventory import Inventory
from ims.images.sbom import MAX_BYTES as MAX_SBOM
from ims.images.sbom import read_sbom
from ims.records.models import Image, Recipe
from ims.settings import settings
from ims.storage.manifest import MAX_BYTES, ROOTFS, SBOM, Manifest, read_manifest
from ims.storage.objects import ObjectName, ObjectStore, StoredObject

log = logging.getLogger(__name__)


def check_recipe_link(store: ObjectStore, link: ArtifactLink) -> None:
    """Raises FieldError if the archive does not exist, or is larger than what it may unpack to."""
    size, limit = _stat(store, link).size, settings().recipe_max_mib * 1024 * 1024
    if size > limit:
        raise FieldError.of("link", f"{link.path} has {size} bytes, more than the {limit} of IMS_RECIPE_MAX_MIB")


@dataclass(frozen=True)
class Linked:
    """The addresses of the objects that an image needs, and the contents of its SBOM if it has one."""

    objects: set[str]
    inventory: Inventory | None


def check_image_link(store: ObjectStore, link: ArtifactLink) -> Linked:
    """Returns what the manifest of an image and its SBOM say.

    Raises FieldError if the manifest or the SBOM cannot be read, or an object of the manifest does not exist;
    UnusableError unless the manifest has exactly one rootfs.
    """
    _stat(store, link)
    try:
        manifest = read_linked_manifest(store, link)
        for artifact in manifest.artifacts:
            store.stat(ObjectName.parse(artifact.link.path))
    except (InputError, MissingError) as error:
        raise FieldError.of("link", str(error)) from None
    if (count := len(manifest.of_type(ROOTFS))) != 1:
        raise UnusableError.of("link", f"the manifest has {count} artifacts of the type {ROOTFS}, not one")
    return Linked(_objects(link, manifest), _inventory(store, manifest))


def artifact_of(manifest: Manifest, kind: str) -> ObjectName | None:
    """Returns the address of the only artifact of a type, or None. Raises InputError if there are several."""
    found = manifest.of_type(kind)
    if len(found) > 1:
        raise InputError(f"the manifest has {len(found)} artifacts of the type {kind}, not one")
    return ObjectName.parse(found[0].link.path) if found else None


def needed_by(store: ObjectStore, link: ArtifactLink) -> set[str]:
    """Returns the addresses of the objects that an image needs; its link was checked before.

    Raises InputError or MissingError if the manifest cannot be read.
    """
    return _objects(link, read_linked_manifest(store, link))


def has_link(record: Recipe | Image, link: ArtifactLink) -> bool:
    """Returns whether a record has this link, or none. Raises ConflictError if it has another."""
    if record.link is not None and record.link != link.model_dump():
        raise ConflictError(f"{record.name} ({record.id}) already links {record.link['path']}")
    return record.link is not None


def set_link(record: Recipe | Image, link: ArtifactLink) -> None:
    """Sets the link of a record, once for all. Raises ConflictError if the record has another."""
    if not has_link(record, link):
        record.link = link.model_dump()
        record.link_path = link.path


def read_linked_manifest(store: ObjectStore, link: ArtifactLink) -> Manifest:
    """Returns the manifest that a link names. Raises InputError or MissingError if it cannot be read."""
    name = ObjectName.parse(link.path, settings().buckets)
    return read_manifest(store.read_bytes(name, MAX_BYTES), name, settings().buckets)


def _inventory(store: ObjectStore, manifest: Manifest) -> Inventory | None:
    try:
        name = artifact_of(manifest, SBOM)
        return read_sbom(store.read_bytes(name, MAX_SBOM), name) if name is not None else None
    except (InputError, MissingError) as error:
        raise FieldError.of("link", str(error)) from None


def _objects(link: ArtifactLink, manifest: Manifest) -> set[str]:
    return {link.path, *(artifact.link.path for artifact in manifest.artifacts)}


def _stat(store: ObjectStore, link: ArtifactLink) -> StoredObject:
    try:
        stored = store.stat(ObjectName.parse(link.path, settings().buckets))
    except (InputError, MissingError) as error:
        raise FieldError.of("link", str(error)) from None
    if link.etag and link.etag.strip('"') != stored.etag:
        log.warning("%r has the etag %s, its record says %r", link.path, stored.etag, link.etag)
    return stored
