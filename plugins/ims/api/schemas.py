"""What records of all kinds have in common on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Arch = Literal["x86_64", "aarch64"]
Name = Annotated[str, Field(min_length=1, max_length=255)]


class RequestBody(BaseModel):
    """A body whose unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class RecordOut(BaseModel):
    """What every record has."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    created: datetime
    name: str


class ArtifactLink(RequestBody):
    """Where a record's object is."""

    path: Annotated[str, Field(min_length=1, max_length=1024)]
    type: Literal["s3"] = "s3"
    etag: str = ""
