"""`/audit`: the audit log. IMS has no such path."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from ims.api.errors import FieldError
from ims.api.http.auth import may_audit
from ims.api.http.lists import PAGE, After, link_header, read_cursor
from ims.api.http.schemas import Moment, Name
from ims.api.http.services import AuditService
from ims.records.audit import AuditFilter
from ims.records.models import AuditEntry
from ims.records.selection import Position

router = APIRouter(prefix="/audit", tags=["audit"])

Kind = Literal["recipe", "image", "public key", "shell", "job", "night"]
Action = Literal["create", "change", "delete", "undelete", "purge", "cancel"]


class AuditOut(BaseModel):
    """A change: who made it, of which record, and the changed fields before and after.

    The fields are null if all records of a kind were deleted or undeleted at once.
    """

    model_config = ConfigDict(from_attributes=True)

    id: int
    created: datetime
    who: str
    action: str
    kind: str
    record_id: str
    name: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@router.get("", dependencies=[may_audit()], response_model=list[AuditOut], responses=PAGE)
def list_audit(
    request: Request,
    response: Response,
    audit: AuditService,
    kind: Annotated[Kind | None, Query(description="changes of this kind of record")] = None,
    record_id: Annotated[Name | None, Query(description="changes of the record with this id")] = None,
    name: Annotated[Name | None, Query(description="changes of records that had this name then")] = None,
    who: Annotated[Name | None, Query(description="changes by this user")] = None,
    action: Annotated[Action | None, Query(description="changes of this kind")] = None,
    since: Annotated[Moment | None, Query(description="at this time or later; UTC unless it has a time zone")] = None,
    until: Annotated[Moment | None, Query(description="earlier than this; UTC unless it has a time zone")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="the most entries to return")] = 100,
    after: After = None,
) -> list[AuditEntry]:
    """List the changes of records, jobs and nights, newest first."""
    selected = AuditFilter(kind, record_id, name, who, action, since, until, _last_of_page(after))
    found = list(audit.list(selected, limit + 1))
    if len(found) > limit:
        last = found[limit - 1]
        response.headers.update(link_header(request, Position(last.created, str(last.id))))
    return found[:limit]


def _last_of_page(after: str | None) -> int | None:
    end = read_cursor(after)
    if end is None:
        return None
    if not end.id.isdecimal() or len(end.id) > 18:
        raise FieldError.of("after", "not the end of a page of this list; take it from the header Link")
    return int(end.id)
