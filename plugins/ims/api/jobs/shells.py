"""`/jobs/{id}/shell`: the shell of a job. IMS has no such path: its clients finish a shell with a marker file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ims.api.errors import ConflictError
from ims.api.http.auth import may_read, may_write
from ims.api.http.schemas import Id, Moment, RequestBody, Text
from ims.api.http.services import ShellsService
from ims.records.models import Shell

router = APIRouter(prefix="/jobs", tags=["jobs"])


class ShellIn(RequestBody):
    """A shell that the workflow has opened."""

    name: Text
    jail: bool
    host: Text
    port: Annotated[int, Field(ge=1, le=65535)]
    command: Text
    fingerprint: Text
    until: Moment
    run_url: Text = ""


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
    run_url: str
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


@router.put("/{id}/shell", dependencies=[may_write()], response_model=ShellOut)
def put_shell(identity: Id, body: ShellIn, shells: ShellsService) -> Shell:
    """Register the shell that the workflow has opened."""
    return shells.save(identity, body.model_dump())


@router.post("/{id}/shell", dependencies=[may_write()], response_model=ShellOut)
def operate_shell(identity: Id, body: ShellOperation, shells: ShellsService) -> Shell:
    """Finish, give up or extend a shell. The first of finishing and giving up is final."""

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


@router.delete("/{id}/shell", status_code=204, dependencies=[may_write()])
def close_shell(identity: Id, shells: ShellsService) -> None:
    """Record that the workflow has closed the shell."""

    def change(shell: Shell) -> None:
        shell.closed = shell.closed or datetime.now(UTC)

    shells.change(identity, change)
