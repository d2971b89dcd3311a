"""What records of all kinds have in common on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator


def in_utc(moment: datetime) -> datetime:
    """A moment in UTC, which one without a zone is taken for. Raises ValueError: the calendar does not go so far."""
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("beyond the calendar") from None


Moment = Annotated[datetime, AfterValidator(in_utc)]
Arch = Literal["x86_64", "aarch64"]
# A database takes every character but this one.
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Id = Annotated[str, Path(alias="id")]
Name = Annotated[Text, Field(min_length=1, max_length=255)]


class RequestBody(BaseModel):
    """A body whose unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class PatchBody(RequestBody):
    """A change: what is not given stays as it is, and null is no value."""

    @field_validator("*", mode="before")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("must not be null")
        return value


class RecordOut(BaseModel):
    """What every record has."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    created: datetime
    name: str


class ArtifactLink(RequestBody):
    """Where a record's object is."""

    path: Annotated[Text, Field(min_length=1, max_length=1024)]
    type: Literal["s3"] = "s3"
    etag: Annotated[Text, Field(max_length=1024)] = ""


class LinkOut(BaseModel):
    """A link as it is stored: what was taken once is shown, whatever the rules for new ones are."""

    path: str
    type: str
    etag: str
