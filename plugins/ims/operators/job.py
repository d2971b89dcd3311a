"""The tasks of a job that open its workspace, register its image and clean up."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any, Literal, Never

from airflow.sdk import Context

from ims.connections import api_client, object_store
from ims.errors import ConfigurationError, InputError, MissingError, PermanentError
from ims.jobs import job_id
from ims.lineage import lineage_id
from ims.operators.base import ImsOperator, workspace_of
from ims.params import boot_files
from ims.runtime.choice import runtime
from ims.settings import settings
from ims.steps.artifacts import Upload, UploadedArtifact
from ims.storage.manifest import CUSTOMIZATION, MANIFEST_NAME, write_manifest
from ims.storage.objects import ObjectName
from ims.triggers.space import SpaceTrigger
from ims.workflows import WAITS_FOR

SPACE_SECONDS = 24 * 3600
"""How long a new job waits for space. In this time, the maintenance runs once and removes what it can."""


class OpenWorkspaceOperator(ImsOperator):
    """Looks up the record that the job works on, and creates the workspace of the job.

    Results: `workspace`, `job_id`, the `image_id` and `image_name` of the new image, the `path`, `arch` and `lineage`
    of the record, the `etag` of its object if a job wrote that, and the `profiles` to build and names of files in
    /boot: those of the job or, if it has none, of the record.
    """

    template_fields = (*ImsOperator.template_fields, "artifact_id", "size_gib")

    def __init__(
        self, *, kind: Literal["recipes", "images"], artifact_id: Any, size_gib: Any, **arguments: Any
    ) -> None:
        super().__init__(multiple_outputs=True, **arguments)
        self.kind = kind
        self.artifact_id = artifact_id
        self.size_gib = size_gib

    def perform(self, context: Context) -> dict[str, Any]:
        """Wait in the triggerer while a disk is almost full. Then open the workspace, and return the results."""
        return self.resume(context, {"until": time.time() + SPACE_SECONDS})

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Continue when there is space, or wait again if other jobs took it.

        Raises ConfigurationError if the job has waited too long.
        """
        if (shortage := runtime().shortage()) is not None:
            self._wait(context, shortage, event["until"])
        return self._open(context)

    def _wait(self, context: Context, shortage: str, until: float) -> Never:
        if time.time() >= until:
            raise ConfigurationError(
                f"{shortage}, and the job waited {SPACE_SECONDS // 3600} hours for that",
                "Make room on the disk, or set IMS_DISK_WATERMARK_MIB, then start again",
            )
        self.log.warning("%s", shortage)
        context["ti"].xcom_push(WAITS_FOR, shortage)
        self.defer(trigger=SpaceTrigger(until), method_name="resume")

    def _open(self, context: Context) -> dict[str, Any]:
        """Open the workspace. Each try gets an image id of its own, so no two tries write the same objects."""
        job = job_id(str(context["run_id"]))
        record = api_client().record(self.kind, self.artifact_id)
        if record["link"] is None:
            raise InputError(
                f"{record['name']} ({record['id']}) has no link to an object in S3", "Set its link, then start again"
            )
        workspace = runtime().open_workspace(workspace_of(context), self.size_gib or settings().build_env_size)
        self.log.info("job %s uses %s %s; its workspace is %s", job, record["name"], record["id"], workspace)
        return {
            "workspace": str(workspace),
            "job_id": job,
            "image_id": str(uuid.uuid4()),
            "image_name": context["params"]["image_root_archive_name"],
            "path": record["link"]["path"],
            # Only the service sets `job_id`, and links never change. Damaged objects must not be copied unread.
            "etag": record["link"]["etag"] if record.get("job_id") and not record.get("damage") else None,
            "arch": record["arch"],
            "lineage": lineage_id(record["name"], record["arch"]),
            "profiles": context["params"].get("profiles") or record.get("profiles") or [],
            **boot_files.names(context["params"], record),
        }


class RemoveWorkspaceOperator(ImsOperator):
    """Removes the workspace of a run that makes no image."""

    def perform(self, context: Context) -> None:
        """Succeeds if there is no workspace."""
        runtime().close_workspace(workspace_of(context))


class CloseWorkspaceOperator(ImsOperator):
    """Removes the workspace and, unless the image is registered, the uploaded artifacts.

    The task fails if no image is registered. Airflow takes the state of a run from its last task; without this
    failure, a cancelled run, whose tasks were skipped, would count as a success.
    """

    template_fields = (*ImsOperator.template_fields, "image_id")

    def __init__(self, *, image_id: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.image_id = image_id

    def perform(self, context: Context) -> None:
        """Raises PermanentError: the job made no image."""
        runtime().close_workspace(workspace_of(context))
        if not self._is_registered():
            self._delete_uploads()
            raise PermanentError(
                "the job made no image: a task failed or the job was cancelled", "See the log of the task that failed"
            )

    def _is_registered(self) -> bool:
        if not self.image_id:
            return False
        try:
            api_client().record("images", self.image_id)
        except MissingError:
            return False
        return True

    def _delete_uploads(self) -> None:
        if self.image_id:
            count = object_store().delete_prefix(settings().images_bucket, f"{self.image_id}/")
            self.log.info("deleted %d objects and unfinished uploads", count)


class WriteManifestOperator(ImsOperator):
    """Writes the manifest, which lists the uploaded artifacts, beside them in S3.

    `uploads` are the results of `upload_artifacts`.
    """

    template_fields = (*ImsOperator.template_fields, "image_id", "uploads")

    def __init__(self, *, image_id: Any, uploads: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.image_id = image_id
        self.uploads = uploads

    def perform(self, context: Context) -> dict[str, str]:
        """Returns path and etag of the manifest."""
        uploads = [Upload.model_validate(upload) for upload in self.uploads]
        text = write_manifest(artifact.in_manifest for upload in uploads for artifact in upload.artifacts)
        name = ObjectName(settings().images_bucket, f"{self.image_id}/{MANIFEST_NAME}")
        etag = object_store().write_bytes(name, text.encode())
        self.log.info("wrote %s", name)
        return {"path": str(name), "etag": etag}


class SaveImageRecordOperator(ImsOperator):
    """Registers the image under the id that its artifacts were uploaded with.

    `manifest` is the result of WriteManifestOperator, `uploads` are those of `upload_artifacts`. `origin` are more
    fields of the image record, such as `source_recipe_id` or `changes`.
    """

    template_fields = (*ImsOperator.template_fields, "image_id", "name", "arch", "manifest", "uploads", "origin")

    def __init__(
        self,
        *,
        image_id: Any,
        name: Any,
        arch: Any,
        manifest: Any,
        uploads: Any,
        origin: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.image_id = image_id
        self.name = name
        self.arch = arch
        self.manifest = manifest
        self.uploads = uploads
        self.origin = origin or {}

    def perform(self, context: Context) -> dict[str, Any]:
        """Returns the record. Another try finds the same record, because the id is given."""
        fields = {
            "name": self.name,
            "arch": self.arch,
            "link": {"type": "s3", **self.manifest},
            "job_id": job_id(str(context["run_id"])),
            "size": sum(artifact.size for artifact in self._artifacts()),
            "customization_digest": self._customization_digest(),
            **self.origin,
        }
        record: dict[str, Any] = api_client().call("PUT", f"images/{self.image_id}", json=fields)
        self.log.info("registered image %s: %s", record["id"], self.manifest["path"])
        return record

    def _customization_digest(self) -> str | None:
        """The SHA-256 of the build inputs, if a script or a playbook made the image."""
        return next((artifact.sha256 for artifact in self._artifacts() if artifact.type == CUSTOMIZATION), None)

    def _artifacts(self) -> Iterator[UploadedArtifact]:
        for upload in self.uploads:
            yield from Upload.model_validate(upload).artifacts
