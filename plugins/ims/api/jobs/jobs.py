"""`/jobs`: a job is a run of a workflow, whoever started it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from ims.api.http.auth import CurrentCaller, may_read, may_write
from ims.api.http.deletes import DELETES, Doomed, DryRun, gone, would_delete
from ims.api.http.lists import PAGE, After, Limit, add_link, read_cursor
from ims.api.http.problems import Problem, field_problem
from ims.api.http.schemas import Id
from ims.api.http.services import RecordsService, StoreService
from ims.api.jobs.filters import JobFilter, JobFilterQuery
from ims.api.jobs.schemas import CreateJobIn, CustomizeJobIn, JobOut, JobPatch
from ims.api.jobs.views import Describe, DescribeService
from ims.api.runs import job_checks
from ims.api.runs.airflow import AirflowApi, AirflowService
from ims.api.runs.lists import pages_of_runs, position
from ims.api.runs.runs import Run, expect_run, find_run
from ims.jobs import idempotent_run_id
from ims.params import CreateParams, CustomizeParams, JobParams
from ims.records.selection import Position
from ims.records.store import Records
from ims.storage.objects import ObjectStore
from ims.workflows import CREATE_IMAGE, CUSTOMIZE_IMAGE

router = APIRouter(prefix="/jobs", tags=["jobs"])

_WIRE_ONLY = {"job_type", "ssh_containers"}
_ENDED = ("success", "error")

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="the same key and body of the same user mean the same job, however often they are sent",
    ),
]


@router.get("", dependencies=[may_read()], response_model=list[JobOut], responses=PAGE)
async def list_jobs(
    request: Request,
    response: Response,
    airflow: AirflowService,
    describe: DescribeService,
    wanted: JobFilterQuery,
    limit: Limit = None,
    after: After = None,
) -> list[JobOut]:
    """The jobs that the filter takes, oldest first."""
    shown: list[tuple[Run, JobOut]] = []
    async for page in _selected(airflow, describe, wanted, read_cursor(after)):
        shown += page
        if limit is not None and len(shown) > limit:
            shown = shown[:limit]
            add_link(request, response, position(shown[-1][0]))
            break
    return [job for _, job in shown]


@router.post("", status_code=201, dependencies=[may_write()], response_model=JobOut)
async def create_job(
    airflow: AirflowService,
    records: RecordsService,
    describe: DescribeService,
    store: StoreService,
    caller: CurrentCaller,
    body: Annotated[dict[str, Any], Body()],
    key: IdempotencyKey = None,
) -> JobOut:
    """Start a job."""
    dag_id, job = _read_job(body)
    run_id = idempotent_run_id(caller.id, key) if key else str(uuid.uuid4())
    known = await find_run(airflow, run_id) if key else None
    if known is None:
        await run_in_threadpool(job_checks.check, job, records, store)
        known = await _start(airflow, dag_id, run_id, job)
        await _check_again(airflow, known, job, records, store)
    if (known.dag_id, known.job.model_dump()) != (dag_id, job.model_dump()):
        raise Problem(409, f"the Idempotency-Key was used for another job: {known.job_id}")
    return await describe.one(known)


@router.delete("", **DELETES)
async def delete_jobs(
    airflow: AirflowService, describe: DescribeService, wanted: JobFilterQuery, dry_run: DryRun = False
) -> Response:
    """Delete the jobs that the filter takes."""
    doomed = [found async for page in _selected(airflow, describe, wanted, None) for found in page]
    if dry_run:
        return would_delete(_doomed(job) for _, job in doomed)
    for run, _ in doomed:
        await _delete(airflow, run)
    return gone()


@router.get("/{id}", dependencies=[may_read()], response_model=JobOut)
async def get_job(identity: Id, airflow: AirflowService, describe: DescribeService) -> JobOut:
    """One job."""
    return await describe.one(await expect_run(airflow, identity))


@router.patch("/{id}", dependencies=[may_write()], response_model=JobOut)
async def update_job(identity: Id, body: JobPatch, airflow: AirflowService, describe: DescribeService) -> JobOut:
    """Take what is so already; the status `error` cancels a running job."""
    run = await expect_run(airflow, identity)
    if body.status == "error" and run.status not in _ENDED:
        await _cancel(airflow, run)
        run = await expect_run(airflow, identity)
    job = await describe.one(run)
    for field, value in body.model_dump(exclude_none=True).items():
        if getattr(job, field) != value:
            raise Problem(409, f"{field} of a job follows from its run: it is {getattr(job, field)}, not {value}")
    return job


@router.delete("/{id}", **DELETES)
async def delete_job(
    identity: Id, airflow: AirflowService, describe: DescribeService, dry_run: DryRun = False
) -> Response:
    """Forget an ended job; cancel one that runs, which then ends as `error`."""
    run = await expect_run(airflow, identity)
    if dry_run:
        return would_delete([_doomed(await describe.one(run))])
    await _delete(airflow, run)
    return gone()


async def _selected(
    airflow: AirflowApi, describe: Describe, wanted: JobFilter, after: Position | None
) -> AsyncIterator[list[tuple[Run, JobOut]]]:
    """The jobs that are wanted, each with its run, in pages."""
    async for runs in pages_of_runs(airflow, wanted.runs, after):
        jobs = await describe.all(runs)
        yield [(run, job) for run, job in zip(runs, jobs, strict=True) if wanted.takes(job)]


def _doomed(job: JobOut) -> Doomed:
    return Doomed(id=job.id, name=job.image_root_archive_name)


async def _start(airflow: AirflowApi, dag_id: str, run_id: str, job: JobParams) -> Run:
    """The new run; the one that is there, where the same request came at the same moment."""
    run = {"dag_run_id": run_id, "logical_date": None, "conf": job.model_dump(exclude_unset=True)}
    try:
        await airflow.call("POST", f"dags/{dag_id}/dagRuns", json=run)
    except Problem as problem:
        if problem.status != 409:
            raise
    return await expect_run(airflow, run_id)


async def _check_again(airflow: AirflowApi, run: Run, job: JobParams, records: Records, store: ObjectStore) -> None:
    """Who removes a record hides it first and then looks for runs; so a run and a removal cannot miss each other."""
    try:
        await run_in_threadpool(job_checks.check, job, records, store)
    except Problem:
        await _cancel(airflow, run)
        raise


def _read_job(body: dict[str, Any]) -> tuple[str, JobParams]:
    """The workflow for a new job, and the fields that it is given. Raises Problem: the body is not a job."""
    try:
        if body.get("job_type") == "customize":
            return CUSTOMIZE_IMAGE.dag_id, _customize(CustomizeJobIn.model_validate(body))
        create = CreateJobIn.model_validate(body)
    except ValidationError as error:
        raise job_checks.invalid(error) from None
    if create.ssh_containers:
        raise field_problem("ssh_containers", "a create job has none", 400)
    return CREATE_IMAGE.dag_id, CreateParams(**create.model_dump(exclude=_WIRE_ONLY, exclude_unset=True))


def _customize(body: CustomizeJobIn) -> CustomizeParams:
    fields = body.model_dump(exclude=_WIRE_ONLY, exclude_unset=True)
    if body.ssh_containers:
        if len(body.ssh_containers) > 1:
            raise field_problem("ssh_containers", "a job has one at most", 400)
        fields |= {"shell_name": body.ssh_containers[0].name, "jail": body.ssh_containers[0].jail}
    return CustomizeParams(**fields)


async def _delete(airflow: AirflowApi, run: Run) -> None:
    if run.state in ("queued", "running"):
        await _cancel(airflow, run)
    else:
        await airflow.call("DELETE", f"dags/{run.dag_id}/dagRuns/{run.run_id}")


async def _cancel(airflow: AirflowApi, run: Run) -> None:
    await airflow.call("PATCH", f"dags/{run.dag_id}/dagRuns/{run.run_id}", json={"state": "failed"})
