"""`/jobs`: a job is a run of a workflow, whoever started it."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Query, Request
from pydantic import BaseModel, Field, ValidationError

from ims.api import references
from ims.api.access import may_delete, may_read, may_write
from ims.api.airflow import AirflowApi, AirflowService
from ims.api.problems import Problem, field_problem
from ims.api.runs import JOB_TYPES, Run, StepState, all_runs, find_run
from ims.api.schemas import PatchBody, RequestBody
from ims.api.services import RecordsService
from ims.jobs import CreateJob
from ims.records.models import Recipe
from ims.records.store import Records
from ims.settings import settings

router = APIRouter(prefix="/jobs", tags=["jobs"])

Status = Literal[
    "creating",
    "fetching_recipe",
    "fetching_image",
    "waiting_for_repos",
    "building_image",
    "waiting_on_user",
    "packaging_artifacts",
    "success",
    "error",
]
JobType = Literal["create", "customize"]
_ENDED = ("success", "error")
_AGE = re.compile(
    r"(?:(?P<weeks>[0-9]{1,4})w)?(?:(?P<days>[0-9]{1,5})d)?(?:(?P<hours>[0-9]{1,6})h)?(?:(?P<minutes>[0-9]{1,7})m)?"
)


class SshContainer(RequestBody):
    """A shell that a job is to open."""

    name: str
    jail: bool = False


class CreateJobIn(CreateJob):
    """A new job of the type create."""

    job_type: Literal["create"]
    ssh_containers: list[SshContainer] | None = None


class JobPatch(PatchBody):
    """IMS's own scripts push these; here they follow from the run, so only what is so already is taken."""

    status: Status | None = None
    resultant_image_id: str | None = None


class Step(BaseModel):
    """A task of a job; its log is at `log_url`."""

    name: str
    state: str | None
    try_number: int
    started: datetime | None
    ended: datetime | None
    log_url: str


class JobOut(BaseModel):
    """A job: the fields of IMS, then ours, which tell what happens and why."""

    id: str
    created: datetime
    job_type: JobType
    status: Status
    artifact_id: str | None = None
    public_key_id: str | None = None
    image_root_archive_name: str | None = None
    arch: str | None
    enable_debug: bool
    build_env_size: int | None
    job_mem_size: int | None
    kernel_file_name: str
    initrd_file_name: str
    kernel_parameters_file_name: str
    require_dkms: bool
    ssh_containers: list[dict[str, Any]] = Field(default_factory=list)
    resultant_image_id: str | None
    kubernetes_job: str | None = None
    kubernetes_service: str | None = None
    kubernetes_configmap: str | None = None
    kubernetes_namespace: str | None = None
    kubernetes_pvc: str | None = None
    kubernetes_secret: str | None = None
    remote_build_node: str = ""

    failed_step: str | None
    reason: str | None
    log_url: str
    dag_id: str
    dag_run_id: str
    steps: list[Step]


class JobFilter:
    """Which jobs a request means."""

    def __init__(
        self,
        request: Request,
        status: Annotated[list[Status] | None, Query()] = None,
        job_type: Annotated[JobType | None, Query()] = None,
        age: Annotated[str | None, Query(description="older than, as in 1w2d3h4m")] = None,
    ) -> None:
        unknown = set(request.query_params) - {"status", "job_type", "age"}
        if unknown:
            # Ignoring a misspelt filter would delete every job.
            raise Problem(400, f"unknown query parameters: {', '.join(sorted(unknown))}")
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
async def list_jobs(airflow: AirflowService, records: RecordsService, wanted: JobFilterQuery) -> list[JobOut]:
    """All jobs that the filter takes, oldest first."""
    return [_job(run, records) for run in await all_runs(airflow) if wanted.takes(run)]


@router.post("", status_code=201, dependencies=[may_write()], response_model=JobOut)
async def create_job(
    airflow: AirflowService, records: RecordsService, body: Annotated[dict[str, Any], Body()]
) -> JobOut:
    """Start a job."""
    job = _read_job(body)
    references.check(job, records)
    identity = str(uuid.uuid4())
    conf = job.model_dump(exclude={"job_type", "ssh_containers"}, exclude_unset=True)
    await airflow.call(
        "POST",
        "dags/create_image/dagRuns",
        json={"dag_run_id": identity, "logical_date": None, "conf": conf},
    )
    return _job(await _run(airflow, identity), records)


@router.delete("", status_code=204, dependencies=[may_delete()])
async def delete_jobs(airflow: AirflowService, wanted: JobFilterQuery) -> None:
    """Delete the jobs that the filter takes."""
    for run in await all_runs(airflow):
        if wanted.takes(run):
            await _delete(airflow, run)


@router.get("/{job_id}", dependencies=[may_read()], response_model=JobOut)
async def get_job(job_id: str, airflow: AirflowService, records: RecordsService) -> JobOut:
    """One job."""
    return _job(await _run(airflow, job_id), records)


@router.patch("/{job_id}", dependencies=[may_write()], response_model=JobOut)
async def update_job(job_id: str, body: JobPatch, airflow: AirflowService, records: RecordsService) -> JobOut:
    """Take what is so already; the status `error` cancels a running job."""
    run = await _run(airflow, job_id)
    if body.status == "error" and run.status not in _ENDED:
        await _cancel(airflow, run)
        run = await _run(airflow, job_id)
    job = _job(run, records)
    for field, value in body.model_dump(exclude_none=True).items():
        if getattr(job, field) != value:
            raise Problem(409, f"{field} of a job follows from its run: it is {getattr(job, field)}, not {value}")
    return job


@router.delete("/{job_id}", status_code=204, dependencies=[may_delete()])
async def delete_job(job_id: str, airflow: AirflowService) -> None:
    """Forget an ended job; cancel one that runs, which then ends as `error`."""
    await _delete(airflow, await _run(airflow, job_id))


def _read_job(body: dict[str, Any]) -> CreateJobIn:
    if body.get("job_type") == "customize":
        raise field_problem("job_type", "customize is not available yet", 400)
    try:
        job = CreateJobIn.model_validate(body)
    except ValidationError as error:
        raise references.invalid(error) from None
    if job.ssh_containers:
        raise field_problem("ssh_containers", "a create job has none", 400)
    return job


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


def _job(run: Run, records: Records) -> JobOut:
    fields = run.fields
    recipe = records.find(Recipe, str(fields.get("artifact_id")))
    image = records.image_of_job(run.job_id)
    arch = recipe.arch if recipe is not None else None
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
        require_dkms=dkms if dkms is not None else (recipe is None or recipe.require_dkms),
        resultant_image_id=image.id if image is not None else None,
        failed_step=failed.name if failed is not None else None,
        reason=run.reason,
        log_url=_log_url(run, failed) if failed is not None else _run_url(run),
        dag_id=run.dag_id,
        dag_run_id=run.run_id,
        steps=[_step(run, step) for step in run.steps],
    )


def _step(run: Run, step: StepState) -> Step:
    return Step(**step.model_dump(exclude={"name", "map_index"}), name=step.label, log_url=_log_url(run, step))


def _run_url(run: Run) -> str:
    return f"{settings().airflow_url}/dags/{run.dag_id}/runs/{run.run_id}"


def _log_url(run: Run, step: StepState) -> str:
    mapped = f"/mapped/{step.map_index}" if step.map_index >= 0 else ""
    return f"{_run_url(run)}/tasks/{step.name}{mapped}"
