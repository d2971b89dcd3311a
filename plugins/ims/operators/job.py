"""The tasks of a job that speak to our API: the first, the one that saves the result, and the last."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from airflow.sdk import BaseOperator, Context

from ims.connections import api_client, object_store
from ims.errors import InputError, MissingError
from ims.jobs import job_id, lineage
from ims.operators.errors import task_errors
from ims.runtime.choice import runtime
from ims.settings import settings
from ims.storage.manifest import MANIFEST_NAME
from ims.storage.objects import ObjectName


class OpenWorkspaceOperator(BaseOperator):
    """Looks up what the job works on and makes its workspace.

    Results: `workspace`, `job_id`, `image_id` and `image_name` of the image to be made, and of the record: `path`,
    `arch`, `lineage`, `variables`.
    """

    template_fields = ("artifact_id", "size_gib")

    def __init__(
        self, *, kind: Literal["recipes", "images"], artifact_id: Any, size_gib: Any, **arguments: Any
    ) -> None:
        super().__init__(multiple_outputs=True, **arguments)
        self.kind = kind
        self.artifact_id = artifact_id
        self.size_gib = size_gib

    def execute(self, context: Context) -> dict[str, Any]:
        """Returns what the other tasks need to know. A new image id at every try: no two runs share objects."""
        job = job_id(str(context["run_id"]))
        with task_errors(context):
            record = api_client().record(self.kind, self.artifact_id)
            if record["link"] is None:
                raise InputError(f"{record['name']} ({record['id']}) has no link to an object in S3", "PATCH one")
            size = self.size_gib or settings().build_env_size
            workspace = runtime().open_workspace(job, size)
        self.log.info("job %s works on %s %s in %s", job, record["name"], record["id"], workspace)
        return {
            "workspace": str(workspace),
            "job_id": job,
            "image_id": str(uuid.uuid4()),
            "image_name": context["params"]["image_root_archive_name"],
            "path": record["link"]["path"],
            "arch": record["arch"],
            "lineage": lineage(record["name"], record["arch"]),
            "variables": {item["key"]: item["value"] for item in record.get("template_dictionary", [])},
        }


class CloseWorkspaceOperator(BaseOperator):
    """Removes the workspace and, where no image record names them, the artifacts that were uploaded.

    Without an image the task fails, and with it the run: Airflow takes the last task's word, and a cancelled run whose
    tasks were skipped would else be a success.
    """

    template_fields = ("image_id",)

    def __init__(self, *, image_id: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.image_id = image_id

    def execute(self, context: Context) -> None:
        """Leave nothing of the job but its log and, if it succeeded, its image."""
        with task_errors(context):
            runtime().close_workspace(job_id(str(context["run_id"])))
            if not self._is_recorded():
                if self.image_id:
                    removed = object_store().delete_prefix(settings().images_bucket, f"{self.image_id}/")
                    self.log.info("removed %d objects and unfinished uploads", removed)
                raise InputError(
                    "the job made no image: a task failed or the job was cancelled", "Nothing of it is left"
                )

    def _is_recorded(self) -> bool:
        if not self.image_id:
            return False
        try:
            api_client().record("images", self.image_id)
        except MissingError:
            return False
        return True


class SaveImageRecordOperator(BaseOperator):
    """Seed step 10: registers the image, under the id that its artifacts were uploaded with, when all are in S3.

    `origin` are more fields of the record, on what it was made of.
    """

    template_fields = ("image_id", "name", "arch", "origin")

    def __init__(
        self, *, image_id: Any, name: Any, arch: Any, origin: dict[str, Any] | None = None, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.image_id = image_id
        self.name = name
        self.arch = arch
        self.origin = origin or {}

    def execute(self, context: Context) -> dict[str, Any]:
        """Returns the record. Its id is given, so saving it twice makes one record."""
        manifest = ObjectName(settings().images_bucket, f"{self.image_id}/{MANIFEST_NAME}")
        with task_errors(context):
            link = {"type": "s3", "path": str(manifest), "etag": object_store().stat(manifest).etag}
            fields = {
                "name": self.name,
                "arch": self.arch,
                "link": link,
                "job_id": job_id(str(context["run_id"])),
                **self.origin,
            }
            record: dict[str, Any] = api_client().call("PUT", f"images/{self.image_id}", json=fields)
        self.log.info("image %s: %s", record["id"], manifest)
        return record
