"""Lists of records: filters as dependencies of routes, and pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from ims.api.catalog.documents import Documents, json_response
from ims.api.errors import FieldError
from ims.api.http.lists import After, CreatedAfter, CreatedBefore, Limit, link_header, read_cursor, unknown_header
from ims.api.http.reading import read
from ims.api.http.schemas import Arch, ImageName, Name, Text
from ims.api.http.services import RecordsService
from ims.errors import InputError
from ims.images.versions import check_version, is_below
from ims.records.rows import Row, position
from ims.records.selection import Selection
from ims.records.store import Records

MAX_FILTERS = 20
CHUNK = 1000
"""Records that are read at once for a list without a limit."""


async def by_name(
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


async def by_arch(
    base: Annotated[Selection, Depends(by_name)], arch: Annotated[Arch | None, Query()] = None
) -> Selection:
    """Filters of recipes."""
    return replace(base, arch=arch)


async def by_labels(
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


async def by_packages(
    records: RecordsService,
    base: Annotated[Selection, Depends(by_labels)],
    package: Annotated[Name | None, Query(description="the name of a package in the image")] = None,
    package_below: Annotated[
        Name | None, Query(description="the package is older than this version, as rpm or dpkg compares versions")
    ] = None,
    damaged: Annotated[
        bool, Query(description="only images of which maintenance found objects in S3 to be missing or damaged")
    ] = False,
) -> Selection:
    """Filters of images."""
    base = replace(base, damaged=damaged)
    if package_below is None:
        return replace(base, package=package)
    if package is None:
        raise FieldError.of("package_below", "needs the name of a package; give package, too")
    installed = await read(records.versions, package)
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


async def page(request: Request, records: Records, documents: Documents, selection: Selection) -> Response:
    """Returns the selected records; if there are more than the limit, a header names the next page.

    If they are images with a package, another header counts the images whose packages are unknown.
    A long list without a limit is sent while it is read, so it never delays other requests or fills the memory.
    """
    return await read(_page, request, records, documents, selection)


def _page(request: Request, records: Records, documents: Documents, selection: Selection) -> Response:
    headers: dict[str, str] = {}
    if selection.package is not None:
        headers |= unknown_header(records.count_unknown(selection))
    size = selection.limit or CHUNK
    found = records.rows.list(documents.kind, replace(selection, limit=size + 1))
    if len(found) > size and selection.limit is None:
        stream = _stream(records, documents, selection, found)
        return StreamingResponse(stream, media_type="application/json", headers=headers)
    if len(found) > size:
        headers |= link_header(request, position(documents.kind, found[size - 1]))
    return json_response(documents.write(found[:size]), headers)


def _stream(records: Records, documents: Documents, selection: Selection, found: Sequence[Row]) -> Iterator[bytes]:
    """Yields the list that begins with `found`, as JSON. Records created meanwhile are at its end."""
    separator = b"["
    while found:
        yield separator + documents.write(found)[1:-1]
        separator = b","
        after = position(documents.kind, found[-1])
        found = records.rows.list(documents.kind, replace(selection, after=after, limit=CHUNK))
    yield b"]"
