"""Types and models that the bodies of all resources share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from ims.api.http.times import WireTime
from ims.params import IMAGE_NAME_LENGTH, check_image_name


def in_utc(moment: datetime) -> datetime:
    """Converts a time to UTC; without a time zone, it is UTC already. Raises ValueError if it is out of range."""
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("the time is out of range (years 1 to 9999)") from None


Moment = Annotated[datetime, AfterValidator(in_utc)]
Arch = Literal["x86_64", "aarch64"]
# Databases cannot store the null character.
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Id = Annotated[str, Path(alias="id")]
Name = Annotated[Text, Field(min_length=1, max_length=255)]
ImageName = Annotated[Text, Field(min_length=1, max_length=IMAGE_NAME_LENGTH), AfterValidator(check_image_name)]


class RequestBody(BaseModel):
    """A body that may not have unknown fields."""

    model_config = ConfigDict(extra="forbid")


class PatchBody(RequestBody):
    """A change of some fields; other fields keep their values. A field may not be null."""

    @field_validator("*", mode="before")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("must not be null")
        return value


class RecordOut(BaseModel):
    """The fields of every record."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    created: WireTime
    name: str


class ArtifactLink(RequestBody):
    """The address of an object in S3."""

    path: Annotated[Text, Field(min_length=1, max_length=1024)]
    type: Literal["s3"] = "s3"
    etag: Annotated[Text, Field(max_length=1024)] = ""


class LinkOut(BaseModel):
    """A link as it is stored, which may break the rules for new links."""

    path: str
    type: str
    etag: str
