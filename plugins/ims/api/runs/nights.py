"""`/nights`: the nightly builds and the result of each recipe."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from ims.api.http.auth import may_read, may_write
from ims.api.http.lists import PAGE, After, link_header, read_cursor
from ims.api.http.schemas import Id
from ims.api.http.services import AuditService, RecordsService
from ims.api.runs.airflow import AirflowApi, AirflowService
from ims.api.runs.job_checks import check_night
from ims.api.runs.lists import after_position, position
from ims.api.runs.lookup import find_run
from ims.api.runs.night_views import DescribeNightService, NightOut
from ims.api.runs.references import with_ids
from ims.api.runs.runs import Run, run_of
from ims.errors import MissingError
from ims.params import NightParams
from ims.records.selection import Position
from ims.workflows import NIGHTLY_IMAGES

router = APIRouter(prefix="/nights", tags=["nights"])

Limit = Annotated[int, Query(ge=1, le=100, description="the most items to return")]


@router.get("", dependencies=[may_read()], response_model=list[NightOut], responses=PAGE)
async def list_nights(
    request: Request,
    response: Response,
    airflow: AirflowService,
    describe: DescribeNightService,
    limit: Limit = 20,
    after: After = None,
) -> list[NightOut]:
    """List nights, newest first."""
    found = await newest(airflow, read_cursor(after), limit + 1)
    shown = found[:limit]
    if len(found) > limit:
        response.headers.update(link_header(request, position(shown[-1])))
    return [await describe.one(run) for run in shown]


@router.post("", status_code=201, dependencies=[may_write()], response_model=NightOut)
async def create_night(
    body: NightParams,
    airflow: AirflowService,
    records: RecordsService,
    describe: DescribeNightService,
    audit: AuditService,
) -> NightOut:
    """Start a night now, with the given recipes or those that are due. It waits while another night runs."""
    night = await run_in_threadpool(with_ids, body, records)
    await run_in_threadpool(check_night, night, records)
    run: dict[str, Any] = {
        "dag_run_id": str(uuid.uuid4()),
        "logical_date": None,
        "conf": night.model_dump(exclude_unset=True),
    }
    started = run_of(await airflow.call("POST", f"dags/{NIGHTLY_IMAGES.dag_id}/dagRuns", json=run))
    await run_in_threadpool(audit.add, "night", started.run_id, "", "create", run["conf"])
    return await describe.one(started)


@router.get("/{id}", dependencies=[may_read()], response_model=NightOut)
async def get_night(identity: Id, airflow: AirflowService, describe: DescribeNightService) -> NightOut:
    """Get a night. While it runs, the answer shows its progress."""
    run = await find_run(airflow, [NIGHTLY_IMAGES.dag_id], identity)
    if run is None:
        raise MissingError(f"there is no night with the id {identity}")
    return await describe.one(run)


async def newest(airflow: AirflowApi, after: Position | None, count: int) -> list[Run]:
    """Returns at most `count` runs that are older than the one at `after`, newest first."""
    query: dict[str, Any] = {"order_by": "-run_after", "limit": count}
    if after is not None:
        query |= {"run_after_lte": after.created.isoformat(), "limit": count + 1}
    found = await airflow.call("GET", f"dags/{NIGHTLY_IMAGES.dag_id}/dagRuns", params=query)
    return after_position([run_of(item) for item in found["dag_runs"]], after)[:count]
