"""The records that a new run names: by id, by the beginning of an id, or by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from ims.api.errors import FieldError
from ims.params import CreateParams, CustomizeParams, NightParams, PlanParams
from ims.records.audit import KINDS
from ims.records.models import Image, PublicKey, Recipe, RecordType
from ims.records.selection import Selection
from ims.records.store import Records

MIN_PREFIX = 4
SHOWN = 5
"""The most candidates that an answer lists."""
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PREFIX = re.compile(rf"[0-9a-f-]{{{MIN_PREFIX},36}}")
_KINDS: dict[type[BaseModel], dict[str, Any]] = {
    CreateParams: {"artifact_id": Recipe, "public_key_id": PublicKey},
    CustomizeParams: {"artifact_id": Image, "public_key_id": PublicKey},
    NightParams: {"recipes": Recipe},
    PlanParams: {"recipes": Recipe},
}
"""The fields of the params of each workflow that refer to records, and the kinds of these records."""

Params = TypeVar("Params", bound=BaseModel)


def with_ids(params: Params, records: Records, earlier: Mapping[str, Any] | None = None) -> Params:
    """Returns the params of a run with the full id of each record that they name.

    A name means the newest record of that name and takes precedence over the beginning of an id. In a repeated
    request, it means the record that the `earlier` params identify. Whether there is a record with a full id is left
    to the checks of the run.

    Raises FieldError if no record has the name, or if the ids of several records begin with the text.
    """
    given: dict[str, Any] = {name: getattr(params, name) for name in _fields(params)}
    for name, kind in _fields(params).items():
        before = (earlier or {}).get(name)
        if isinstance(before, str) and isinstance(given[name], str) and _is_named(given[name], kind, before, records):
            given[name] = before
    return params.model_copy(
        update={name: _ids(name, value, _fields(params)[name], records) for name, value in given.items() if value}
    )


def references(params: BaseModel) -> dict[str, Any]:
    """Returns the fields of the params that refer to records and have been given, with their values."""
    return params.model_dump(include=set(_fields(params)), exclude_unset=True)


def _fields(params: BaseModel) -> Mapping[str, Any]:
    return next((fields for model, fields in _KINDS.items() if isinstance(params, model)), {})


def _ids(field: str, value: str | list[str], kind: Any, records: Records) -> str | list[str]:
    if isinstance(value, str):
        return _id(field, value, kind, records)
    ids = [_id(f"{field}.{number}", item, kind, records) for number, item in enumerate(value)]
    return list(dict.fromkeys(ids))


def _is_named(text: str, kind: type[RecordType], identity: str, records: Records) -> bool:
    """Whether a text was the name, or the beginning of the id, of a record that may be deleted by now."""
    record = records.find(kind, identity)
    return (record is not None and record.name == text) or (
        _PREFIX.fullmatch(text.lower()) is not None and identity.startswith(text.lower())
    )


def _id(field: str, text: str, kind: type[RecordType], records: Records) -> str:
    if _ID.fullmatch(text):
        return text
    if named := records.list(kind, Selection(name=text, newest_first=True, limit=1)):
        return named[0].id
    prefix = text.lower()
    found = records.ids_with_prefix(kind, prefix, SHOWN + 1) if _PREFIX.fullmatch(prefix) else []
    if not found:
        raise FieldError.of(field, f"no {KINDS[kind]} has the id or name {text}")
    if len(found) > 1:
        more = ", …" if len(found) > SHOWN else ""
        raise FieldError.of(
            field, f"the ids of several {KINDS[kind]}s begin with {text}: {', '.join(found[:SHOWN])}{more}"
        )
    return found[0]
