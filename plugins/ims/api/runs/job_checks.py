"""Checks that what a job or a night refers to exists and can be used."""

from __future__ import annotations

import platform

from ims.api.errors import FieldError, UnusableError
from ims.errors import InputError, MissingError
from ims.params import CustomizeParams, JobParams, NightParams
from ims.records.models import Image, PublicKey, Recipe, RecordType
from ims.records.store import Records
from ims.replays.customization import PLAYBOOK
from ims.settings import settings
from ims.storage.manifest import MAX_BYTES, ROOTFS, Manifest, ManifestVersionError, read_manifest
from ims.storage.objects import ObjectName, ObjectStore


def check_job(job: JobParams, records: Records, store: ObjectStore) -> None:
    """Raises UnusableError if the job refers to a record that does not exist or cannot be used here.

    Raises FieldError if the archive, the manifest or the rootfs is not in S3.
    """
    check_objects(check_references(job, records, store), store)


def check_references(job: JobParams, records: Records, store: ObjectStore) -> Recipe | Image:
    """Returns the record that a job works on.

    Raises UnusableError if the job refers to a record or playbook that does not exist or cannot be used here, and
    FieldError if its shell has no key.
    """
    if job.shell is not None and job.public_key_id is None:
        raise FieldError.of("public_key_id", "give the name or id of the key that may log in to the shell of the job")
    artifact: Recipe | Image
    if isinstance(job, CustomizeParams):
        artifact = _find(records, Image, job.artifact_id, "artifact_id")
    else:
        artifact = _find(records, Recipe, job.artifact_id, "artifact_id")
    if job.public_key_id is not None:
        _find(records, PublicKey, job.public_key_id, "public_key_id")
    _check_artifact(artifact, "artifact_id")
    if isinstance(job, CustomizeParams) and job.playbook is not None:
        _check_playbook(store, records, job.playbook)
    return artifact


def check_objects(artifact: Recipe | Image, store: ObjectStore) -> None:
    """Raises FieldError if the archive of a recipe, or the manifest or rootfs of an image, is not in S3.

    Raises UnusableError if the manifest is of another version or has not exactly one rootfs.
    """
    link = artifact.link or {}
    try:
        name = ObjectName.parse(link["path"], settings().buckets)
        if isinstance(artifact, Image):
            name = _rootfs(read_manifest(store.read_bytes(name, MAX_BYTES), name, settings().buckets))
        store.stat(name)
    except UnusableError:
        raise
    except ManifestVersionError as error:
        raise UnusableError.of("artifact_id", str(error)) from None
    except (InputError, MissingError) as error:
        raise FieldError.of("artifact_id", str(error)) from None


def check_night(night: NightParams, records: Records) -> None:
    """Raises UnusableError if the night refers to a recipe that does not exist or cannot be built here."""
    for identity in night.recipes:
        _check_artifact(_find(records, Recipe, identity, "recipes"), "recipes")


def check_link(artifact: Recipe | Image, field: str) -> None:
    """Raises UnusableError if the record has no object in S3."""
    if artifact.link is None:
        raise UnusableError.of(field, f"{artifact.name} has no link to an object in S3")


def _find(records: Records, kind: type[RecordType], identity: str, field: str) -> RecordType:
    try:
        return records.get(kind, identity)
    except MissingError as error:
        raise UnusableError.of(field, str(error)) from None


def _check_artifact(artifact: Recipe | Image, field: str) -> None:
    check_link(artifact, field)
    if isinstance(artifact, Recipe) and artifact.recipe_type != "kiwi-ng":
        raise UnusableError.of(field, f"{artifact.recipe_type} recipes cannot be built, only kiwi-ng")
    if settings().runtime == "local" and artifact.arch != platform.machine():
        raise UnusableError.of(field, f"{artifact.name} is for {artifact.arch}, not {platform.machine()}")


def _rootfs(manifest: Manifest) -> ObjectName:
    found = manifest.of_type(ROOTFS)
    if len(found) != 1:
        raise UnusableError.of("artifact_id", f"the manifest has {len(found)} artifacts of the type {ROOTFS}, not one")
    return ObjectName.parse(found[0].link.path)


def _check_playbook(store: ObjectStore, records: Records, path: str) -> None:
    """Raises UnusableError unless the object exists in the bucket that users upload to, or an image keeps it."""
    bucket = settings().recipes_bucket
    if not path.startswith(f"s3://{bucket}/") and not _is_kept_playbook(records, path):
        raise UnusableError.of("playbook", f"{path} is not in the bucket {bucket}")
    try:
        store.stat(ObjectName.parse(path))
    except (InputError, MissingError) as error:
        raise UnusableError.of("playbook", str(error)) from None


def _is_kept_playbook(records: Records, path: str) -> bool:
    image = path.removeprefix(f"s3://{settings().images_bucket}/").removesuffix(f"/{PLAYBOOK}")
    found = records.find(Image, image) if path == f"s3://{settings().images_bucket}/{image}/{PLAYBOOK}" else None
    return found is not None and found.deleted is None and found.customization_digest is not None
