"""Times of the fields of IMS, which version 2 writes as IMS does: in UTC, without a time zone."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Annotated

from pydantic import PlainSerializer

_AS_IMS: ContextVar[bool] = ContextVar("times_as_ims", default=False)


async def write_times_as_ims() -> None:
    """A dependency of routes whose answers have no time zones; async, because a thread has a context of its own."""
    _AS_IMS.set(True)


def written(moment: datetime) -> datetime:
    """Returns a time as the version of the API writes it."""
    return moment.astimezone(UTC).replace(tzinfo=None) if _AS_IMS.get() else moment


WireTime = Annotated[datetime, PlainSerializer(written, return_type=datetime)]
"""A time of which clients of IMS may expect the form."""
