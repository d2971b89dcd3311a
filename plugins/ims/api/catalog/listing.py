"""Lists of records: filters as dependencies of routes, and pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from ims.api.errors import FieldError
from ims.api.http.lists import After, CreatedAfter, CreatedBefore, Limit, add_link, add_unknown, read_cursor
from ims.api.http.schemas import Arch, ImageName, Name, RecordOut, Text
from ims.api.http.services import RecordsService
from ims.errors import InputError
from ims.images.versions import check_version, is_below
from ims.records.models import RecordType
from ims.records.selection import Selection, position
from ims.records.store import Records

MAX_FILTERS = 20
CHUNK = 1000
"""Records that are read at once for a list without a limit."""


def by_name(
    name: Annotated[ImageName | None, Query()] = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    limit: Limit = None,
    after: After = None,
) -> Selection:
    """Filters of all records."""
    return Selection(
        name=name,
        created_after=created_after,
        created_before=created_before,
        limit=limit,
        after=read_cursor(after),
    )


def by_arch(base: Annotated[Selection, Depends(by_name)], arch: Annotated[Arch | None, Query()] = None) -> Selection:
    """Filters of recipes."""
    return replace(base, arch=arch)


def by_labels(
    base: Annotated[Selection, Depends(by_arch)],
    metadata: Annotated[
        list[Text] | None, Query(max_length=MAX_FILTERS, description="key=value; all pairs must match")
    ] = None,
) -> Selection:
    """Filters of records with metadata."""
    pairs = [item.partition("=") for item in metadata or ()]
    for key, equals, _ in pairs:
        if not equals:
            raise FieldError.of("metadata", f"{key!r} is not key=value")
    return replace(base, labels=tuple((key, value) for key, _, value in pairs))


def by_packages(
    records: RecordsService,
    base: Annotated[Selection, Depends(by_labels)],
    package: Annotated[Name | None, Query(description="the name of a package in the image")] = None,
    package_below: Annotated[
        Name | None, Query(description="the package is older than this version, as rpm or dpkg compares versions")
    ] = None,
) -> Selection:
    """Filters of images."""
    if package_below is None:
        return replace(base, package=package)
    if package is None:
        raise FieldError.of("package_below", "needs the name of a package; give package, too")
    installed = records.versions(package)
    kinds = sorted({kind for kind, _ in installed})
    try:
        below = tuple((kind, tuple(_below(kind, installed, package_below))) for kind in kinds)
        if not kinds:
            check_version(package_below)
    except InputError as error:
        raise FieldError.of("package_below", str(error)) from None
    return replace(base, package=package, versions=below)


def _below(kind: str, installed: Iterable[tuple[str, str]], limit: str) -> list[str]:
    return [version for found, version in installed if found == kind and is_below(kind, version, limit)]


def page(
    request: Request,
    response: Response,
    records: RecordsService,
    kind: type[RecordType],
    out: type[RecordOut],
    selection: Selection,
) -> list[RecordType] | StreamingResponse:
    """Returns the selected records; if there are more than the limit, a header names the next page.

    If they are images with a package, another header counts the images whose packages are unknown.
    A long list without a limit is sent while it is read, so it never delays other requests or fills the memory.
    """
    if selection.package is not None:
        add_unknown(response, records.count_unknown(selection))
    size = selection.limit or CHUNK
    found = records.list(kind, replace(selection, limit=size + 1))
    if len(found) <= size:
        return found
    if selection.limit is None:
        stream = _stream(records, kind, out, selection, found)
        return StreamingResponse(stream, media_type="application/json", headers=dict(response.headers))
    add_link(request, response, position(found[size - 1]))
    return found[:size]


def _stream(
    records: Records, kind: type[RecordType], out: type[RecordOut], selection: Selection, found: list[RecordType]
) -> Iterator[bytes]:
    """Yields the list that begins with `found`, as JSON. Records created meanwhile are at its end."""
    adapter = TypeAdapter(list[out])  # type: ignore[valid-type]
    separator = b"["
    while found:
        yield separator + adapter.dump_json(adapter.validate_python(found))[1:-1]
        separator = b","
        found = records.list(kind, replace(selection, after=position(found[-1]), limit=CHUNK))
    yield b"]"
