"""Lists: filters, and pages in a stable order. The body is a plain list, as IMS's; the next page is named in `Link`."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from ims.api.errors import FieldError
from ims.api.http.schemas import Arch, Moment, Name, RecordOut, Text, in_utc
from ims.api.http.services import RecordsService
from ims.errors import InputError
from ims.images.versions import check_version, is_below
from ims.records.models import RecordType
from ims.records.selection import Position, Selection, position
from ims.records.store import Records

CreatedAfter = Annotated[Moment | None, Query(description="made later than this; without a time zone it is UTC")]
CreatedBefore = Annotated[Moment | None, Query(description="made earlier than this; without a time zone it is UTC")]
Limit = Annotated[int | None, Query(ge=1, le=1000, description="at most so many; without it all")]
After = Annotated[Text | None, Query(description="where the page before ended, as its `Link` says")]

LINK = {"Link": {"description": 'the next page, `<…>; rel="next"`, if there is one', "schema": {"type": "string"}}}
PIECE = 1000  # records of a whole list that are read at once
PAGE: dict[int | str, dict[str, object]] = {200: {"headers": LINK}}


def write_cursor(where: Position) -> str:
    """A position as it is written in a query."""
    return base64.urlsafe_b64encode(f"{where.created.isoformat()}|{where.id}".encode()).decode().rstrip("=")


def read_cursor(text: str | None) -> Position | None:
    """The position that `after` names. Raises FieldError if it is not a position."""
    if text is None:
        return None
    try:
        moment, _, identity = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition("|")
        if not identity or "\0" in identity:
            raise ValueError
        return Position(in_utc(datetime.fromisoformat(moment)), identity)
    except ValueError:
        raise FieldError.of("after", "not the end of a page; take it from the header Link") from None


def add_link(request: Request, response: Response, last: Position) -> None:
    """Name the page that follows `last` in the answer's headers."""
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "after"]
    url = f"{request.url.path}?{urlencode([*query, ('after', write_cursor(last))])}"
    response.headers["Link"] = f'<{url}>; rel="next"'


def by_name(
    name: Annotated[Name | None, Query()] = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    limit: Limit = None,
    after: After = None,
) -> Selection:
    """What every kind of record can be selected by."""
    return Selection(
        name=name,
        created_after=created_after,
        created_before=created_before,
        limit=limit,
        after=read_cursor(after),
    )


def by_arch(base: Annotated[Selection, Depends(by_name)], arch: Annotated[Arch | None, Query()] = None) -> Selection:
    """What recipes can be selected by."""
    return replace(base, arch=arch)


def by_labels(
    base: Annotated[Selection, Depends(by_arch)],
    metadata: Annotated[list[Text] | None, Query(description="key=value; all that are given have to hold")] = None,
) -> Selection:
    """What records with metadata can be selected by."""
    pairs = [item.partition("=") for item in metadata or ()]
    for key, equals, _ in pairs:
        if not equals:
            raise FieldError.of("metadata", f"{key!r} is not key=value")
    return replace(base, labels=tuple((key, value) for key, _, value in pairs))


def by_packages(
    records: RecordsService,
    base: Annotated[Selection, Depends(by_labels)],
    package: Annotated[Name | None, Query(description="the name of a package that it holds")] = None,
    package_below: Annotated[
        Text | None, Query(description="in a version below this, in the order of rpm or dpkg")
    ] = None,
) -> Selection:
    """What images can be selected by."""
    if package_below is None:
        return replace(base, package=package)
    if package is None:
        raise FieldError.of("package_below", "of which package? Give package too")
    held = records.versions(package)
    kinds = sorted({kind for kind, _ in held})
    try:
        below = tuple((kind, tuple(_below(kind, held, package_below))) for kind in kinds)
        if not kinds:
            check_version(package_below)
    except InputError as error:
        raise FieldError.of("package_below", str(error)) from None
    return replace(base, package=package, versions=below)


def _below(kind: str, held: Iterable[tuple[str, str]], limit: str) -> list[str]:
    return [version for found, version in held if found == kind and is_below(kind, version, limit)]


def page(
    request: Request,
    response: Response,
    records: RecordsService,
    kind: type[RecordType],
    out: type[RecordOut],
    selection: Selection,
) -> list[RecordType] | StreamingResponse:
    """The records that are selected; where there are more than the limit, the answer names the next page.

    A long list without a limit is written while it is read: nobody else waits for it, and it is never in memory whole.
    """
    size = selection.limit or PIECE
    found = records.list(kind, replace(selection, limit=size + 1))
    if len(found) <= size:
        return found
    if selection.limit is None:
        return StreamingResponse(_written(records, kind, out, selection, found), media_type="application/json")
    add_link(request, response, position(found[size - 1]))
    return found[:size]


def _written(
    records: Records, kind: type[RecordType], out: type[RecordOut], selection: Selection, found: list[RecordType]
) -> Iterator[bytes]:
    """The list that begins with `found`, as JSON. What is made meanwhile is at its end."""
    some = TypeAdapter(list[out])  # type: ignore[valid-type]
    before = b"["
    while found:
        yield before + some.dump_json(some.validate_python(found))[1:-1]
        before = b","
        found = records.list(kind, replace(selection, after=position(found[-1]), limit=PIECE))
    yield b"]"
