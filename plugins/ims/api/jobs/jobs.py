"""`/jobs`: every run of `create_image` and `customize_image` is a job, no matter who started it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Request, Response

from ims.api.errors import ConflictError
from ims.api.http.auth import may_read, may_write
from ims.api.http.deletes import DELETES, DryRun, PlannedDeletion, no_content, would_delete
from ims.api.http.lists import PAGE, After, Limit, link_header, read_cursor
from ims.api.http.schemas import Id
from ims.api.jobs.deletion import DeletionService
from ims.api.jobs.filters import JobFilter, JobFilterQuery
from ims.api.jobs.schemas import JobOut, JobPatch
from ims.api.jobs.start import JobStart, read_job
from ims.api.jobs.views import Describe, DescribeService
from ims.api.runs.airflow import AirflowApi, AirflowService
from ims.api.runs.lists import pages_of_runs, position
from ims.api.runs.lookup import expect_job
from ims.api.runs.runs import Run
from ims.records.selection import Position

router = APIRouter(prefix="/jobs", tags=["jobs"])

_ENDED = ("success", "error")

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="requests of one user with the same key and body start only one job",
    ),
]


@router.get("", dependencies=[may_read()], response_model=list[JobOut], responses=PAGE)
async def list_jobs(
    request: Request,
    response: Response,
    airflow: AirflowService,
    describe: DescribeService,
    selection: JobFilterQuery,
    limit: Limit = None,
    after: After = None,
) -> list[JobOut]:
    """List the jobs that match the filter, oldest first."""
    shown: list[tuple[Run, JobOut]] = []
    async for page in _selected(airflow, describe, selection, read_cursor(after)):
        shown += page
        if limit is not None and len(shown) > limit:
            shown = shown[:limit]
            response.headers.update(link_header(request, position(shown[-1][0])))
            break
    return [job for _, job in shown]


@router.post("", status_code=201, dependencies=[may_write()], response_model=JobOut)
async def create_job(
    starter: Annotated[JobStart, Depends()],
    describe: DescribeService,
    body: Annotated[dict[str, Any], Body()],
    key: IdempotencyKey = None,
) -> JobOut:
    """Start a job."""
    dag_id, params = read_job(body)
    return await describe.one(await starter.start(dag_id, params, key))


@router.delete("", **DELETES)
async def delete_jobs(
    airflow: AirflowService,
    describe: DescribeService,
    deletion: DeletionService,
    selection: JobFilterQuery,
    dry_run: DryRun = False,
) -> Response:
    """Delete the jobs that match the filter; those that run are cancelled."""
    matching = [found async for page in _selected(airflow, describe, selection, None) for found in page]
    if dry_run:
        return would_delete(_planned(job) for _, job in matching)
    for run, _ in matching:
        await deletion.delete(run)
    return no_content()


@router.get("/{id}", dependencies=[may_read()], response_model=JobOut)
async def get_job(identity: Id, airflow: AirflowService, describe: DescribeService) -> JobOut:
    """Get a job."""
    return await describe.one(await expect_job(airflow, identity))


@router.patch("/{id}", dependencies=[may_write()], response_model=JobOut)
async def update_job(
    identity: Id, body: JobPatch, airflow: AirflowService, describe: DescribeService, deletion: DeletionService
) -> JobOut:
    """Cancel a running job by setting its status to `error`. Other values must match the job."""
    run = await expect_job(airflow, identity)
    if body.status == "error" and run.status not in _ENDED:
        await deletion.cancel(run)
        run = await expect_job(airflow, identity)
    job = await describe.one(run)
    for field, value in body.model_dump(exclude_none=True).items():
        if getattr(job, field) != value:
            raise ConflictError(f"{field} of a job follows from its run: it is {getattr(job, field)}, not {value}")
    return job


@router.delete("/{id}", **DELETES)
async def delete_job(
    identity: Id,
    airflow: AirflowService,
    describe: DescribeService,
    deletion: DeletionService,
    dry_run: DryRun = False,
) -> Response:
    """Delete a job that has ended; cancel any other, which then ends in `error`.

    While its workflow is paused, a cancelled job can be deleted, too. The maintenance then removes its workspace.
    """
    run = await expect_job(airflow, identity)
    if dry_run:
        return would_delete([_planned(await describe.one(run))])
    await deletion.delete(run)
    return no_content()


async def _selected(
    airflow: AirflowApi, describe: Describe, selection: JobFilter, after: Position | None
) -> AsyncIterator[list[tuple[Run, JobOut]]]:
    """Yields the jobs that match the filter, each with its run, in pages."""
    async for runs in pages_of_runs(airflow, selection.runs, after):
        jobs = await describe.all(runs)
        yield [(run, job) for run, job in zip(runs, jobs, strict=True) if selection.matches(job)]


def _planned(job: JobOut) -> PlannedDeletion:
    return PlannedDeletion(id=job.id, name=job.image_root_archive_name)
