"""`/jobs/{id}/shell`: the shell of a job. IMS has no such path: its clients finish a shell with a marker file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ims.api.errors import ConflictError, FieldError
from ims.api.http.auth import may_read, may_write, only_service
from ims.api.http.owners import SERVICE
from ims.api.http.schemas import Id, Moment, Name, RequestBody, Text
from ims.api.http.services import ShellsService
from ims.jobs import job_id
from ims.records.models import Shell
from ims.settings import settings
from ims.workflows import JobDagId

router = APIRouter(prefix="/jobs", tags=["jobs"])


class ShellIn(RequestBody):
    """A shell that a run of a workflow has opened. The service alone sends it."""

    dag_id: Annotated[JobDagId, SERVICE]
    dag_run_id: Annotated[Name, SERVICE]
    name: Annotated[Name, SERVICE]
    jail: Annotated[bool, SERVICE]
    host: Annotated[Name, SERVICE]
    port: Annotated[int, Field(ge=1, le=65535), SERVICE]
    command: Annotated[Text, Field(max_length=4096), SERVICE]
    fingerprint: Annotated[Name, SERVICE]
    until: Annotated[Moment, SERVICE]


def _address_in_ui(url: str) -> str:
    """Hides addresses of other places, which early versions accepted from any user."""
    return url if url.startswith(f"{settings().ui_url}/dags/") else ""


class ShellOut(BaseModel):
    """How to reach a shell, when its lease ends, and which operation was requested."""

    model_config = ConfigDict(from_attributes=True)

    job_id: str
    name: str
    jail: bool
    host: str
    port: int
    command: str
    fingerprint: str
    until: datetime
    run_url: Annotated[str, AfterValidator(_address_in_ui)]
    operation: str | None
    closed: datetime | None


class ShellOperation(RequestBody):
    """An operation on a shell: finish it, give it up, or set its lease to end in `seconds` from now."""

    operation: Literal["complete", "fail", "extend"]
    seconds: Annotated[int, Field(ge=60, le=30 * 86400)] = 86400


@router.get("/{id}/shell", dependencies=[may_read()], response_model=ShellOut)
def get_shell(identity: Id, shells: ShellsService) -> Shell:
    """Get the shell of a job."""
    return shells.get(identity)


@router.put("/{id}/shell", dependencies=only_service("host", "its job opens a shell"), response_model=ShellOut)
def put_shell(identity: Id, body: ShellIn, shells: ShellsService) -> Shell:
    """Register the shell that the workflow has opened."""
    if job_id(body.dag_run_id) != identity:
        raise FieldError.of("dag_run_id", f"{body.dag_run_id} is not the run of the job {identity}")
    run_url = settings().run_url(body.dag_id, body.dag_run_id)
    return shells.save(identity, {**body.model_dump(exclude={"dag_id", "dag_run_id"}), "run_url": run_url})


@router.post("/{id}/shell", dependencies=[may_write()], response_model=ShellOut)
def operate_shell(identity: Id, body: ShellOperation, shells: ShellsService) -> Shell:
    """Finish, give up or extend a shell. The first of finishing and giving up is final.

    If the image lacks a file in /boot that the job needs, the shell is not finished: within seconds, `operation` is
    null again, and `reason` of the job names the file.
    """

    def change(shell: Shell) -> None:
        if shell.closed is not None:
            raise ConflictError(f"the shell of the job {identity} is closed")
        if body.operation == "extend":
            shell.until = datetime.now(UTC) + timedelta(seconds=body.seconds)
        elif shell.operation not in (None, body.operation):
            raise ConflictError(f"the shell of the job {identity} has already been asked to {shell.operation}")
        else:
            shell.operation = body.operation

    return shells.change(identity, change)


@router.delete(
    "/{id}/shell/operation",
    status_code=204,
    dependencies=only_service("operation", "finish the shell, or give it up, with POST"),
)
def refuse_operation(identity: Id, shells: ShellsService) -> None:
    """Record that the shell was not finished and stays open."""

    def change(shell: Shell) -> None:
        if shell.operation == "complete":
            shell.operation = None

    shells.change(identity, change)


@router.delete("/{id}/shell", status_code=204, dependencies=only_service("closed", "finish the shell with POST"))
def close_shell(identity: Id, shells: ShellsService) -> None:
    """Record that the workflow has closed the shell."""

    def change(shell: Shell) -> None:
        shell.closed = shell.closed or datetime.now(UTC)

    shells.change(identity, change)
