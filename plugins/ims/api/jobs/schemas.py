"""Jobs on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from ims.api.http.schemas import PatchBody, RequestBody, Text
from ims.api.http.times import WireTime
from ims.images.changes import Changes
from ims.params import CreateParams, CustomizeParams, Reference
from ims.workflows import JobStatus, JobType


class SshContainer(RequestBody):
    """A shell that a job is to open."""

    name: Annotated[Text, Field(min_length=1, max_length=63)] = CustomizeParams.model_fields["shell_name"].default
    jail: bool = False


class CreateJobIn(CreateParams):
    """A new job of the type create."""

    public_key_id: Annotated[
        Reference, Field(description="Name or id of the public key that may log in to a debug shell.")
    ]
    job_type: Literal["create"]
    ssh_containers: list[SshContainer] | None = None


class CustomizeJobIn(CustomizeParams):
    """A new job of the type customize. `ssh_containers` can give `name` and `jail` of the shell, as in IMS."""

    job_type: Literal["customize"]
    ssh_containers: list[SshContainer] | None = None


class JobPatch(PatchBody):
    """Changes that the scripts of IMS send. The status `error` cancels a job; other values must be the current ones."""

    status: JobStatus | None = None
    resultant_image_id: str | None = None


class Address(BaseModel):
    """Where a shell listens."""

    host: str
    port: int


class ShellState(BaseModel):
    """A shell of a job. `connection_info` has its addresses for users and for programs in the cluster.

    While the shell is `pending`, these are the addresses at which it will open.
    """

    name: str
    jail: bool
    status: Literal["pending", "active", "complete"]
    connection_info: dict[str, Address] = Field(default_factory=dict)
    command: str | None = None
    fingerprint: str | None = None
    until: datetime | None = None


class Step(BaseModel):
    """A task of a job. `log_url` is the address of its log."""

    name: str
    state: str | None
    try_number: int
    started: datetime | None
    ended: datetime | None
    log_url: str


class JobOut(BaseModel):
    """A job: the fields of IMS, followed by our fields, which explain its state."""

    id: str
    created: WireTime
    job_type: JobType
    status: JobStatus
    artifact_id: str | None = None
    public_key_id: str | None = None
    image_root_archive_name: str | None = None
    arch: str | None
    enable_debug: bool
    build_env_size: int = Field(description="60, as in IMS, if the job did not set it; then IMS_BUILD_ENV_SIZE applies")
    job_mem_size: int = Field(description="8, as in IMS, if the job did not set it; then no limit applies")
    kernel_file_name: str
    initrd_file_name: str
    kernel_parameters_file_name: str
    require_dkms: bool
    profiles: list[str] = Field(
        default_factory=list,
        description="The profiles that the job builds, if it set them. Empty: those of the recipe.",
    )
    ssh_containers: list[ShellState] | None = Field(None, description="null if the job opens no shell")
    resultant_image_id: str | None
    kubernetes_job: str | None = None
    kubernetes_service: str | None = None
    kubernetes_configmap: str | None = None
    kubernetes_namespace: str | None = None
    kubernetes_pvc: str | None = None
    kubernetes_secret: str | None = None
    remote_build_node: str = ""

    started_by: str | None = Field(
        None, description="The user who started the job or its night; null for a night that the schedule started."
    )
    changes: Changes | None
    queue_position: int | None = Field(
        None,
        description="The place in the queue of jobs of the same type, if the job waits; 1 starts next.",
    )
    failed_step: str | None
    reason: str | None = Field(description="Why the job failed, or which repositories or disk space it waits for.")
    log_url: str
    dag_id: str
    dag_run_id: str
    steps: list[Step]
