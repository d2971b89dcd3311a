"""Registering records with a given id: jobs do so with images, and a site that moves keeps the ids of its records."""

from __future__ import annotations

from collections.abc import Callable

from ims.api.errors import ConflictError
from ims.errors import MissingError
from ims.records.audit import KINDS
from ims.records.models import RecordType
from ims.records.store import IdTakenError, Records


def register(
    records: Records,
    kind: type[RecordType],
    identity: str,
    make: Callable[[], RecordType],
    is_same: Callable[[RecordType], bool],
) -> RecordType:
    """Returns the record that `make` returns, stored with this id, or the one that was stored before if it is the same.

    Raises ConflictError if another record has the id, IdTakenError if a tombstone has it.
    """
    try:
        known = records.get(kind, identity)
    except MissingError:
        record = make()
        record.id = identity
        try:
            return records.add(record)
        except IdTakenError:
            # A tombstone has the id, or the same request arrived at the same moment.
            if (found := records.find(kind, identity)) is None or found.deleted is not None:
                raise
            known = found
    if not is_same(known):
        raise ConflictError(f"there is another {KINDS[kind]} with the id {identity}")
    return known
