"""`/jobs`: a job is a run of a workflow, whoever started it."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from ims.api import references
from ims.api.access import may_delete, may_read, may_write
from ims.api.airflow import AirflowApi, AirflowService
from ims.api.job_schemas import (
    Address,
    CreateJobIn,
    CustomizeJobIn,
    JobOut,
    JobPatch,
    JobType,
    ShellState,
    Status,
    Step,
)
from ims.api.problems import Problem, field_problem
from ims.api.runs import JOB_TYPES, Run, StepState, all_runs, find_run
from ims.api.schemas import Id
from ims.api.services import RecordsService, ShellsService, StoreService
from ims.jobs import CreateJob, CustomizeJob, Job, ShellWanted
from ims.records.models import Image, Recipe, Shell
from ims.records.shells import Shells
from ims.records.store import Records
from ims.settings import settings

router = APIRouter(prefix="/jobs", tags=["jobs"])

ARTIFACTS: dict[str, Any] = {"create_image": Recipe, "customize_image": Image}
_WIRE_ONLY = {"job_type", "ssh_containers"}
_ENDED = ("success", "error")
_AGE = re.compile(
    r"(?:(?P<weeks>[0-9]{1,4})w)?(?:(?P<days>[0-9]{1,5})d)?(?:(?P<hours>[0-9]{1,6})h)?(?:(?P<minutes>[0-9]{1,7})m)?"
)


class JobFilter:
    """Which jobs a request means."""

    def __init__(
        self,
        status: Annotated[list[Status] | None, Query()] = None,
        job_type: Annotated[JobType | None, Query()] = None,
        age: Annotated[str | None, Query(description="older than, as in 1w2d3h4m")] = None,
    ) -> None:
        self.status = status
        self.job_type = job_type
        self.before = datetime.now(UTC) - parse_age(age) if age is not None else None

    def takes(self, run: Run) -> bool:
        """Whether the run is meant."""
        return (
            (not self.status or run.status in self.status)
            and (self.job_type is None or JOB_TYPES[run.dag_id] == self.job_type)
            and (self.before is None or run.created < self.before)
        )


def parse_age(text: str) -> timedelta:
    """Read an age such as 2d or 1w12h. Raises Problem: 400, it is something else."""
    match = _AGE.fullmatch(text)
    if not text or match is None:
        raise field_problem("age", f"{text!r} is not an age such as 30m, 12h, 2d or 1w2d", 400)
    return timedelta(**{unit: int(number) for unit, number in match.groupdict(default="0").items()})


JobFilterQuery = Annotated[JobFilter, Depends()]


@router.get("", dependencies=[may_read()], response_model=list[JobOut])
async def list_jobs(
    airflow: AirflowService, records: RecordsService, shells: ShellsService, wanted: JobFilterQuery
) -> list[JobOut]:
    """All jobs that the filter takes, oldest first."""
    runs = [run for run in await all_runs(airflow) if wanted.takes(run)]
    return await run_in_threadpool(_jobs, runs, records, shells)


@router.post("", status_code=201, dependencies=[may_write()], response_model=JobOut)
async def create_job(
    airflow: AirflowService,
    records: RecordsService,
    shells: ShellsService,
    store: StoreService,
    body: Annotated[dict[str, Any], Body()],
) -> JobOut:
    """Start a job."""
    dag_id, job = _read_job(body)
    await run_in_threadpool(references.check, job, records, store)
    run = {"dag_run_id": str(uuid.uuid4()), "logical_date": None, "conf": job.model_dump(exclude_unset=True)}
    await airflow.call("POST", f"dags/{dag_id}/dagRuns", json=run)
    return await _job(await _run(airflow, str(run["dag_run_id"])), records, shells)


@router.delete("", status_code=204, dependencies=[may_delete()])
async def delete_jobs(airflow: AirflowService, wanted: JobFilterQuery) -> None:
    """Delete the jobs that the filter takes."""
    for run in await all_runs(airflow):
        if wanted.takes(run):
            await _delete(airflow, run)


@router.get("/{id}", dependencies=[may_read()], response_model=JobOut)
async def get_job(identity: Id, airflow: AirflowService, records: RecordsService, shells: ShellsService) -> JobOut:
    """One job."""
    return await _job(await _run(airflow, identity), records, shells)


@router.patch("/{id}", dependencies=[may_write()], response_model=JobOut)
async def update_job(
    identity: Id, body: JobPatch, airflow: AirflowService, records: RecordsService, shells: ShellsService
) -> JobOut:
    """Take what is so already; the status `error` cancels a running job."""
    run = await _run(airflow, identity)
    if body.status == "error" and run.status not in _ENDED:
        await _cancel(airflow, run)
        run = await _run(airflow, identity)
    job = await _job(run, records, shells)
    for field, value in body.model_dump(exclude_none=True).items():
        if getattr(job, field) != value:
            raise Problem(409, f"{field} of a job follows from its run: it is {getattr(job, field)}, not {value}")
    return job


@router.delete("/{id}", status_code=204, dependencies=[may_delete()])
async def delete_job(identity: Id, airflow: AirflowService) -> None:
    """Forget an ended job; cancel one that runs, which then ends as `error`."""
    await _delete(airflow, await _run(airflow, identity))


def _read_job(body: dict[str, Any]) -> tuple[str, Job]:
    """The workflow for a new job, and the fields that it is given. Raises Problem: the body is not a job."""
    try:
        if body.get("job_type") == "customize":
            return "customize_image", _customize(CustomizeJobIn.model_validate(body))
        create = CreateJobIn.model_validate(body)
    except ValidationError as error:
        raise references.invalid(error) from None
    if create.ssh_containers:
        raise field_problem("ssh_containers", "a create job has none", 400)
    return "create_image", CreateJob(**create.model_dump(exclude=_WIRE_ONLY, exclude_unset=True))


def _customize(body: CustomizeJobIn) -> CustomizeJob:
    fields = body.model_dump(exclude=_WIRE_ONLY, exclude_unset=True)
    if body.ssh_containers:
        if len(body.ssh_containers) > 1:
            raise field_problem("ssh_containers", "a job has one at most", 400)
        fields |= {"shell_name": body.ssh_containers[0].name, "jail": body.ssh_containers[0].jail}
    return CustomizeJob(**fields)


async def _run(airflow: AirflowApi, identity: str) -> Run:
    run = await find_run(airflow, identity)
    if run is None:
        raise Problem(404, f"there is no job with the id {identity}")
    return run


async def _delete(airflow: AirflowApi, run: Run) -> None:
    if run.state in ("queued", "running"):
        await _cancel(airflow, run)
    else:
        await airflow.call("DELETE", f"dags/{run.dag_id}/dagRuns/{run.run_id}")


async def _cancel(airflow: AirflowApi, run: Run) -> None:
    await airflow.call("PATCH", f"dags/{run.dag_id}/dagRuns/{run.run_id}", json={"state": "failed"})


async def _job(run: Run, records: Records, shells: Shells) -> JobOut:
    return (await run_in_threadpool(_jobs, [run], records, shells))[0]


def _jobs(runs: list[Run], records: Records, shells: Shells) -> list[JobOut]:
    known = shells.of_jobs(run.job_id for run in runs)
    return [_described(run, records, known.get(run.job_id)) for run in runs]


def _described(run: Run, records: Records, shell: Shell | None) -> JobOut:
    fields = run.job.model_dump(warnings=False)
    artifact: Recipe | Image | None = records.find(ARTIFACTS[run.dag_id], str(fields.get("artifact_id")))
    image = records.image_of_job(run.job_id)
    arch = artifact.arch if artifact is not None else None
    failed = run.failed
    kernel = fields.pop("kernel_file_name") or ("Image" if arch == "aarch64" else "vmlinuz")
    dkms = fields.pop("require_dkms")
    return JobOut(
        **{name: value for name, value in fields.items() if name in JobOut.model_fields},
        id=run.job_id,
        created=run.created,
        job_type=JOB_TYPES[run.dag_id],
        status=run.status,
        arch=arch,
        kernel_file_name=kernel,
        require_dkms=dkms if dkms is not None else getattr(artifact, "require_dkms", True),
        ssh_containers=[_shell(run.job.shell, shell)] if run.job.shell is not None else [],
        resultant_image_id=image.id if image is not None else None,
        changes=image.changes if image is not None else None,
        failed_step=failed.name if failed is not None else None,
        reason=run.reason,
        log_url=_log_url(run, failed) if failed is not None else _run_url(run),
        dag_id=run.dag_id,
        dag_run_id=run.run_id,
        steps=[_step(run, step) for step in run.steps],
    )


def _shell(wanted: ShellWanted, shell: Shell | None) -> ShellState:
    if shell is None:
        return ShellState(name=wanted.name, jail=wanted.jail, status="pending")
    address = Address(host=shell.host, port=shell.port)
    return ShellState(
        name=shell.name,
        jail=shell.jail,
        status="active" if shell.closed is None else "complete",
        connection_info={"customer_access": address, "cluster.local": address},
        command=shell.command,
        fingerprint=shell.fingerprint,
        until=shell.until,
    )


def _step(run: Run, step: StepState) -> Step:
    return Step(**step.model_dump(exclude={"name", "map_index"}), name=step.label, log_url=_log_url(run, step))


def _run_url(run: Run) -> str:
    return f"{settings().airflow_url}/dags/{run.dag_id}/runs/{run.run_id}"


def _log_url(run: Run, step: StepState) -> str:
    mapped = f"/mapped/{step.map_index}" if step.map_index >= 0 else ""
    return f"{_run_url(run)}/tasks/{step.name}{mapped}"
