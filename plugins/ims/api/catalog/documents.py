"""Records as JSON, straight from their rows.

The models of the resources define the documents. This module writes the same documents without validating what the
service itself has stored: for a page, Pydantic takes longer for that than the database for its work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import Response
from pydantic_core import to_json

from ims.api.http.reading import read
from ims.api.http.schemas import LinkOut, RecordOut
from ims.api.http.times import written
from ims.images.changes import Changes
from ims.records.rows import Row, columns
from ims.records.store import Records

_LINK = tuple(LinkOut.model_fields)


def _link(link: dict[str, str]) -> dict[str, str]:
    return {name: link[name] for name in _LINK}


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {"created": written, "link": _link, "changes": Changes.model_validate}
"""Functions that convert the values of fields whose JSON differs from what is stored. They are not called for None."""


class Documents:
    """Reads and writes the records of a kind as documents of a model."""

    def __init__(self, kind: Any, out: type[RecordOut]) -> None:
        self.kind = kind
        numbers = {name: number for number, name in enumerate(columns(kind))}
        self._fields = [
            (name, numbers[str(field.validation_alias or name)], _CONVERSIONS.get(name))
            for name, field in out.model_fields.items()
        ]

    def write(self, rows: Iterable[Row]) -> bytes:
        """Returns rows as a list in JSON."""
        return to_json([self._document(row) for row in rows])

    async def get(self, records: Records, identity: str, *, deleted: bool = False) -> Response:
        """Returns the answer with one record. Raises MissingError if there is none with that id."""
        return json_response(await read(self._get, records, identity, deleted))

    def _get(self, records: Records, identity: str, deleted: bool) -> bytes:
        return to_json(self._document(records.rows.get(self.kind, identity, deleted=deleted)))

    def _document(self, row: Row) -> dict[str, Any]:
        return {
            name: value if (value := row[number]) is None or convert is None else convert(value)
            for name, number, convert in self._fields
        }


def json_response(content: bytes, headers: dict[str, str] | None = None) -> Response:
    """Returns an answer with JSON."""
    return Response(content, media_type="application/json", headers=headers)
