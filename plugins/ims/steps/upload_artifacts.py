"""Seed step 11: upload artifacts to S3 and see that they arrived whole."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ims.settings import settings
from ims.steps.step import Step, StepInput
from ims.storage.digests import Digests
from ims.storage.objects import ObjectName, ObjectStore

log = logging.getLogger(__name__)


class PackedArtifact(BaseModel):
    """What `package_artifacts` says of an artifact."""

    name: str
    type: str
    path: Path
    size: int
    md5: str
    sha256: str


class Input(StepInput):
    """Some of the artifacts, and the image and job they belong to."""

    image_id: str
    image_name: str
    job_id: str
    each: list[PackedArtifact]


def run(step: Input) -> list[dict[str, Any]]:
    """Returns type, S3 path, etag, size and digests of each stored artifact."""
    store = ObjectStore.from_environment()
    labels = {
        # S3 carries metadata in headers: the name of an image may have letters that those cannot hold.
        "x-shasta-ims-image-name": step.image_name.encode("ascii", "replace").decode(),
        "x-shasta-ims-image-id": step.image_id,
        "x-shasta-ims-job-id": step.job_id,
    }
    return [_upload(store, artifact, step.image_id, labels) for artifact in step.each]


def _upload(store: ObjectStore, artifact: PackedArtifact, image_id: str, labels: dict[str, str]) -> dict[str, Any]:
    name = ObjectName(settings().images_bucket, f"{image_id}/{artifact.name}")
    stored = store.upload(artifact.path, name, labels, Digests(artifact.size, artifact.md5, artifact.sha256))
    log.info("uploaded %s: %d bytes, verified", name, stored.size)
    return {
        "type": artifact.type,
        "path": str(name),
        "etag": stored.etag,
        "size": artifact.size,
        "md5": artifact.md5,
        "sha256": artifact.sha256,
    }


STEP = Step("upload_artifacts", Input, run, s3=True)
