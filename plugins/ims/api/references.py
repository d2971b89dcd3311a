"""What a job refers to must exist before the job does. Used by `POST /jobs` and by the door to Airflow's own API."""

from __future__ import annotations

import platform

from pydantic import ValidationError

from ims.api.problems import Problem, field_problem
from ims.errors import MissingError
from ims.jobs import CreateJob, CustomizeJob, Job
from ims.records.models import Image, PublicKey, Recipe, RecordType
from ims.records.store import Records


def check(job: Job, records: Records) -> None:
    """Raises Problem: 400, the job names something that is not there or that cannot be worked on here."""
    artifact: Recipe | Image
    if isinstance(job, CustomizeJob):
        artifact = _named(records, Image, job, "artifact_id")
    else:
        artifact = _named(records, Recipe, job, "artifact_id")
    _named(records, PublicKey, job, "public_key_id")
    if artifact.link is None:
        raise field_problem("artifact_id", f"{artifact.name} has no link to an object in S3", 400)
    if isinstance(artifact, Recipe) and artifact.recipe_type != "kiwi-ng":
        raise field_problem("artifact_id", f"{artifact.recipe_type} recipes cannot be built, only kiwi-ng", 400)
    if artifact.arch != platform.machine():
        raise field_problem("artifact_id", f"{artifact.name} is for {artifact.arch}, not {platform.machine()}", 400)
    if isinstance(job, CreateJob) and job.enable_debug:
        raise field_problem("enable_debug", "the debug shell is not available yet; leave it false", 400)


def _named(records: Records, kind: type[RecordType], job: Job, field: str) -> RecordType:
    try:
        return records.get(kind, getattr(job, field))
    except MissingError as error:
        raise field_problem(field, str(error), 400) from None


def invalid(error: ValidationError, whole: str = "body") -> Problem:
    """The problem for fields that are wrong; `whole` names what they are fields of."""
    errors: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        errors.setdefault(".".join(str(part) for part in item["loc"]) or whole, []).append(item["msg"])
    return Problem(422, "; ".join(f"{name}: {', '.join(texts)}" for name, texts in errors.items()), errors)
