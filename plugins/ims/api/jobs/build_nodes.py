"""`/remote-build-nodes`: IMS builds for another architecture on such nodes. This service has none yet."""

from __future__ import annotations

from typing import Annotated, NoReturn

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from ims.api.errors import UnusableError
from ims.api.http.auth import may_delete, may_read, may_write
from ims.api.http.schemas import RequestBody, Text
from ims.errors import MissingError

router = APIRouter(prefix="/remote-build-nodes", tags=["remote-build-nodes"])

Xname = Annotated[str, Path(description="the name of a node in the cluster, such as x1000c0s0b0n0")]


class BuildNodeIn(RequestBody):
    """A new node."""

    xname: Annotated[Text, Field(min_length=1, max_length=255)]


class BuildNode(BaseModel):
    """A node."""

    xname: str


class BuildNodeStatus(BuildNode):
    """What a node can do, with the names of IMS."""

    nodeArch: str
    numCurrentJobs: int
    podmanStatus: str
    sshStatus: str
    ableToRunJobs: bool


@router.get("", dependencies=[may_read()])
def list_build_nodes() -> list[BuildNode]:
    """List the remote build nodes. There are none."""
    return []


@router.get("/status", dependencies=[may_read()])
def list_build_node_statuses() -> list[BuildNodeStatus]:
    """List what the remote build nodes can do. There are none."""
    return []


@router.post("", status_code=201, dependencies=[may_write()])
def add_build_node(body: BuildNodeIn) -> BuildNode:
    """Refuse a remote build node."""
    raise UnusableError.of("xname", f"{body.xname} was not added: this service builds on its own machine or cluster")


@router.delete("", status_code=204, dependencies=[may_delete()])
def delete_build_nodes() -> None:
    """Refuse to remove all remote build nodes: there are none."""
    raise UnusableError.of("xname", "there are no remote build nodes")


@router.get("/status/{xname}", dependencies=[may_read()])
def get_build_node_status(xname: Xname) -> BuildNodeStatus:
    """Get what a remote build node can do."""
    _missing(xname)


@router.get("/{xname}", dependencies=[may_read()])
def get_build_node(xname: Xname) -> BuildNode:
    """Get a remote build node."""
    _missing(xname)


@router.delete("/{xname}", status_code=204, dependencies=[may_delete()])
def delete_build_node(xname: Xname) -> None:
    """Remove a remote build node."""
    _missing(xname)


def _missing(xname: str) -> NoReturn:
    raise MissingError(f"there is no remote build node {xname}")
