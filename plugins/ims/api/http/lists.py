"""Lists: filters by time, and pages in a stable order.

As in IMS, the body is a plain list. The header `Link` names the next page, and `IMS-Unknown-Images` says how many
images a filter of packages could not decide about.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request

from ims.api.errors import FieldError
from ims.api.http.schemas import Moment, Text, in_utc
from ims.records.selection import Position

CreatedAfter = Annotated[Moment | None, Query(description="created later than this; UTC unless it has a time zone")]
CreatedBefore = Annotated[Moment | None, Query(description="created earlier than this; UTC unless it has a time zone")]
Limit = Annotated[int | None, Query(ge=1, le=1000, description="the most items to return; without it, all")]
After = Annotated[
    Text | None, Query(max_length=1024, description="the end of the previous page, from its header `Link`")
]

LINK = {"Link": {"description": 'the next page, `<…>; rel="next"`, if there is one', "schema": {"type": "string"}}}
UNKNOWN = "IMS-Unknown-Images"
"""The header with the number of images that an answer about packages says nothing about."""
UNKNOWN_HEADER = {
    UNKNOWN: {
        "description": "the number of images that could not be read: they match all other filters, and it is unknown "
        "which packages they have",
        "schema": {"type": "integer"},
    }
}
PAGE: dict[int | str, dict[str, object]] = {200: {"headers": LINK}}
IMAGES_PAGE: dict[int | str, dict[str, object]] = {200: {"headers": {**LINK, **UNKNOWN_HEADER}}}


def write_cursor(where: Position) -> str:
    """Returns a position as text for a query."""
    return base64.urlsafe_b64encode(f"{where.created.isoformat()}|{where.id}".encode()).decode().rstrip("=")


def read_cursor(text: str | None) -> Position | None:
    """Returns the position that `after` names. Raises FieldError if it names none."""
    if text is None:
        return None
    try:
        moment, _, identity = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition("|")
        if not identity or "\0" in identity:
            raise ValueError
        return Position(in_utc(datetime.fromisoformat(moment)), identity)
    except ValueError:
        raise FieldError.of("after", "not the end of a page; take it from the header Link") from None


def link_header(request: Request, last: Position) -> dict[str, str]:
    """Returns a header that names the page after `last`."""
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "after"]
    url = f"{request.url.path}?{urlencode([*query, ('after', write_cursor(last))])}"
    return {"Link": f'<{url}>; rel="next"'}


def unknown_header(count: int) -> dict[str, str]:
    """Returns a header with the number of images whose packages are unknown, even if there are none."""
    return {UNKNOWN: str(count)}
