"""What a job refers to must exist before the job does. Used by `POST /jobs` and by the trigger guard."""

from __future__ import annotations

import platform

from pydantic import ValidationError

from ims.api.http.problems import Problem, field_problem
from ims.errors import InputError, MissingError
from ims.params import CustomizeParams, JobParams, NightParams
from ims.records.models import Image, PublicKey, Recipe, RecordType
from ims.records.store import Records
from ims.settings import settings
from ims.storage.objects import ObjectName, ObjectStore


def check(job: JobParams, records: Records, store: ObjectStore) -> None:
    """Raises Problem: 400, the job names something that is not there or that cannot be worked on here."""
    artifact: Recipe | Image
    if isinstance(job, CustomizeParams):
        artifact = _named(records, Image, job.artifact_id, "artifact_id")
    else:
        artifact = _named(records, Recipe, job.artifact_id, "artifact_id")
    if job.public_key_id is not None:
        _named(records, PublicKey, job.public_key_id, "public_key_id")
    _usable(artifact, "artifact_id")
    if isinstance(job, CustomizeParams) and job.playbook is not None:
        _stored(store, job.playbook)


def check_night(night: NightParams, records: Records) -> None:
    """Raises Problem: 400, the night names a recipe that is not there or that cannot be built here."""
    for identity in night.recipes:
        _usable(_named(records, Recipe, identity, "recipes"), "recipes")


def _named(records: Records, kind: type[RecordType], identity: str, field: str) -> RecordType:
    try:
        return records.get(kind, identity)
    except MissingError as error:
        raise field_problem(field, str(error), 400) from None


def _usable(artifact: Recipe | Image, field: str) -> None:
    if artifact.link is None:
        raise field_problem(field, f"{artifact.name} has no link to an object in S3", 400)
    if isinstance(artifact, Recipe) and artifact.recipe_type != "kiwi-ng":
        raise field_problem(field, f"{artifact.recipe_type} recipes cannot be built, only kiwi-ng", 400)
    if settings().runtime == "local" and artifact.arch != platform.machine():
        raise field_problem(field, f"{artifact.name} is for {artifact.arch}, not {platform.machine()}", 400)


def _stored(store: ObjectStore, path: str) -> None:
    """Raises Problem: there is no such object, or it is none that users put there."""
    bucket = settings().recipes_bucket
    if not path.startswith(f"s3://{bucket}/"):
        raise field_problem("playbook", f"{path} is not in the bucket {bucket}", 400)
    try:
        store.stat(ObjectName.parse(path))
    except (InputError, MissingError) as error:
        raise field_problem("playbook", str(error), 400) from None


def invalid(error: ValidationError, whole: str = "body") -> Problem:
    """The problem for fields that are wrong; `whole` names what they are fields of."""
    errors: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        errors.setdefault(".".join(str(part) for part in item["loc"]) or whole, []).append(item["msg"])
    return Problem(422, "; ".join(f"{name}: {', '.join(texts)}" for name, texts in errors.items()), errors)
