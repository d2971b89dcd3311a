"""A running installation and its clients, for tests."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import httpx

from ims.client import ImsClient
from ims.recipes import archive
from ims.settings import Settings
from ims.stack.credentials import TASK_USER, Credentials
from ims.stack.environment import s3_environment
from ims.storage.objects import ObjectName, ObjectStore

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGCPmQJVW7BX2Bq1hA4SKDV6zP0WY2WkgyBtDHaLT5VW test"
ENDED = ("success", "error")


@dataclass
class Service:
    """A running stack: its settings and credentials, and clients for it."""

    settings: Settings
    credentials: Credentials
    client: ImsClient = field(init=False)
    store: ObjectStore = field(init=False)

    def __post_init__(self) -> None:
        user, password = self.settings.admin_user, self.credentials.admin_password
        self.client = ImsClient.login(self.settings.airflow_url, user, password)
        self.store = self.store_at(self.settings.endpoint_url)

    def store_at(self, url: str, attempts: int = 12) -> ObjectStore:
        """S3 at another address, with the rights of the service."""
        environment = s3_environment(self.settings, self.credentials)
        keys = environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
        return ObjectStore.connect(url, *keys, attempts=attempts)

    @property
    def http(self) -> httpx.Client:
        """An HTTP client that carries the administrator's token."""
        return self.client.http

    def task_client(self) -> ImsClient:
        """A client with the rights of the user that tasks have."""
        return ImsClient.login(self.settings.airflow_url, TASK_USER, self.credentials.task_password)

    def upload_recipe(self, packed: bytes, **metadata: str) -> str:
        """Upload an archive unchanged under a new key; returns its S3 address."""
        name = ObjectName(self.settings.recipes_bucket, f"recipes/{uuid4()}/recipe.tar.gz")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "recipe.tar.gz"
            path.write_bytes(packed)
            self.store.upload(path, name, metadata)
        return str(name)

    def push(self, folder: Path, distribution: str, **variables: str) -> dict[str, Any]:
        """Pack, upload and register a recipe folder; returns the record."""
        with TemporaryDirectory() as temporary:
            packed = Path(temporary) / "recipe.tar.gz"
            archive.pack(folder, packed)
            path = self.upload_recipe(packed.read_bytes())
        return self.register(path, distribution, **variables)

    def register(self, path: str, distribution: str = "sles15", **variables: str) -> dict[str, Any]:
        """Register a recipe whose archive is in S3; returns the record."""
        return dict(
            self.client.create(
                "recipes",
                name=f"recipe-{uuid4().hex[:8]}",
                recipe_type="kiwi-ng",
                linux_distribution=distribution,
                link={"path": path, "type": "s3"},
                template_dictionary=[{"key": key, "value": value} for key, value in variables.items()],
            )
        )

    def adopt(self, image: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
        """Register a copy of an image's manifest as an image of another recipe; returns the record."""
        manifest = self.store.read_bytes(ObjectName.parse(image["link"]["path"]), limit=1024 * 1024)
        copy = ObjectName(self.settings.images_bucket, f"{uuid4()}/manifest.yaml")
        link = {"path": str(copy), "type": "s3", "etag": self.store.write_bytes(copy, manifest)}
        fields = {"name": recipe["name"], "link": link, "source_recipe_id": recipe["id"]}
        return dict(self.task_client().create("images", **fields))

    def public_key(self) -> str:
        """Register a public key; returns its id."""
        return str(self.client.create("public-keys", name="test", public_key=PUBLIC_KEY)["id"])

    def job_fields(self, recipe_id: str, **fields: Any) -> dict[str, Any]:
        """The fields of a create job for a recipe."""
        return {
            "artifact_id": recipe_id,
            "public_key_id": self.public_key(),
            "image_root_archive_name": f"image-{uuid4().hex[:8]}",
            **fields,
        }

    def create(self, recipe_id: str, **fields: Any) -> dict[str, Any]:
        """Start a create job; returns it."""
        return dict(self.client.create("jobs", job_type="create", **self.job_fields(recipe_id, **fields)))

    def purge(self, kind: str, identity: str) -> None:
        """Remove a record for good whose objects are missing: backups of other tests would name them."""
        self.client.delete(f"{kind}/{identity}")
        self.client.delete(f"deleted/{kind}/{identity}")

    def wait(self, job_id: str, timeout: float = 600, until: tuple[str, ...] = ENDED) -> dict[str, Any]:
        """Wait until a job has one of the statuses `until`; if it has ended, until its run has ended, too.

        Returns the job. Raises TimeoutError.
        """
        deadline = time.monotonic() + timeout
        job: dict[str, Any] = self.client.get(f"jobs/{job_id}")
        while True:
            # Requests take processor time from the steps; one for the run takes a quarter of that of the job.
            has_ended = (until == ENDED or job["status"] in ENDED) and self.run_state(job) in ("success", "failed")
            if has_ended or until != ENDED:
                job = self.client.get(f"jobs/{job_id}")
            if job["status"] in until and (has_ended or job["status"] not in ENDED):
                return job
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} is {job['status']} after {timeout} s: {job['steps']}")
            time.sleep(1)

    def run_state(self, job: dict[str, Any]) -> str:
        """The state of a job's run in Airflow."""
        answer = self.http.get(f"/api/v2/dags/{job['dag_id']}/dagRuns/{job['dag_run_id']}")
        return str(answer.json()["state"])

    def workspace(self, job_id: str) -> Path:
        """The workspace of a job, or where none is if it is closed."""
        folder = self.settings.workspaces
        return next(folder.glob(f"{job_id}*"), folder / job_id)
