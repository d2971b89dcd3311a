"""`/jobs/{id}/shell`: the shell of a job. IMS has no such path; its clients finish a shell by a marker file."""

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
    """How to reach a shell, how long it stays, and what was asked of it."""

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
    """What to do with a shell: finish it, give it up, or keep it for `seconds` more from now on."""

    operation: Literal["complete", "fail", "extend"]
    seconds: Annotated[int, Field(ge=60, le=30 * 86400)] = 86400


@router.get("/{id}/shell", dependencies=[may_read()], response_model=ShellOut)
def get_shell(identity: Id, shells: ShellsService) -> Shell:
    """The shell of a job."""
    return shells.get(identity)


@router.put("/{id}/shell", dependencies=[may_write()], response_model=ShellOut)
def put_shell(identity: Id, body: ShellIn, shells: ShellsService) -> Shell:
    """Keep what the workflow says of the shell that it opened."""
    return shells.save(identity, body.model_dump())


@router.post("/{id}/shell", dependencies=[may_write()], response_model=ShellOut)
def operate_shell(identity: Id, body: ShellOperation, shells: ShellsService) -> Shell:
    """Finish, give up or extend a shell. The first word counts: finished is finished."""

    def change(shell: Shell) -> None:
        if shell.closed is not None:
            raise ConflictError(f"the shell of the job {identity} is closed")
        if body.operation == "extend":
            shell.until = datetime.now(UTC) + timedelta(seconds=body.seconds)
        elif shell.operation not in (None, body.operation):
            raise ConflictError(f"the shell of the job {identity} was asked to {shell.operation} already")
        else:
            shell.operation = body.operation

    return shells.change(identity, change)


@router.delete("/{id}/shell", status_code=204, dependencies=[may_write()])
def close_shell(identity: Id, shells: ShellsService) -> None:
    """Remember that the workflow has closed the shell."""

    def change(shell: Shell) -> None:
        shell.closed = shell.closed or datetime.now(UTC)

    shells.change(identity, change)
