"""Starting a job: the body of `POST /jobs`, the checks before and after the run is created."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from ims.api.errors import AirflowError, ConflictError, FieldError, UnusableError
from ims.api.http.auth import CurrentCaller
from ims.api.http.services import AuditService, RecordsService, StoreService
from ims.api.jobs.schemas import CreateJobIn, CustomizeJobIn
from ims.api.runs.airflow import AirflowService
from ims.api.runs.every_run import unfinished_runs
from ims.api.runs.job_checks import check_job, check_references
from ims.api.runs.lookup import expect_job, find_job
from ims.api.runs.reasons import cancel
from ims.api.runs.references import with_ids
from ims.api.runs.runs import Run, first_note, new_run
from ims.jobs import idempotent_run_id, shell_port, workspace_id
from ims.params import CreateParams, CustomizeParams, JobParams
from ims.settings import settings
from ims.workflows import CREATE_IMAGE, CUSTOMIZE_IMAGE

_CANDIDATES = 100
"""Ids to choose from. If a job uses the port of each, the shell takes another port when it opens."""
_NOT_PARAMS = {"job_type", "ssh_containers"}


def read_job(body: dict[str, Any]) -> tuple[str, JobParams]:
    """Returns the DAG and the params for a new job. Raises FieldError, UnusableError."""
    try:
        if body.get("job_type") == "customize":
            return CUSTOMIZE_IMAGE.dag_id, _customize(CustomizeJobIn.model_validate(body))
        return CREATE_IMAGE.dag_id, _create(CreateJobIn.model_validate(body))
    except ValidationError as error:
        raise FieldError.from_validation(error) from None


class JobStart:
    """Starts jobs for the caller of a request."""

    def __init__(
        self,
        airflow: AirflowService,
        records: RecordsService,
        store: StoreService,
        caller: CurrentCaller,
        audit: AuditService,
    ) -> None:
        self._airflow = airflow
        self._records = records
        self._store = store
        self._caller = caller
        self._audit = audit

    async def start(self, dag_id: str, params: JobParams, key: str | None) -> Run:
        """Returns the run of the new job, or of the job that the caller has already started with the same key.

        The params may name records as `references` allows. Raises ConflictError if that is another job, UnusableError
        or FieldError if the job refers to something that cannot be used or is gone.
        """
        run_id = idempotent_run_id(self._caller.id, key) if key else await run_in_threadpool(_new_id, dag_id, params)
        run = await find_job(self._airflow, run_id) if key else None
        params = await run_in_threadpool(with_ids, params, self._records, run.conf if run else {})
        if run is None:
            await run_in_threadpool(check_job, params, self._records, self._store)
            run = await self._create(dag_id, run_id, params)
            await self._check_again(run, params)
        if (run.dag_id, run.job.model_dump()) != (dag_id, params.model_dump()):
            raise ConflictError(f"the Idempotency-Key was used for another job: {run.job_id}")
        return run

    async def _create(self, dag_id: str, run_id: str, params: JobParams) -> Run:
        body: dict[str, Any] = {
            "dag_run_id": run_id,
            "logical_date": None,
            "conf": params.model_dump(exclude_unset=True),
            "note": first_note(params, run_id),
        }
        try:
            run = new_run(await self._airflow.call("POST", f"dags/{dag_id}/dagRuns", json=body))
        except AirflowError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            return await expect_job(self._airflow, run_id)  # the same request arrived at the same moment
        name = params.image_root_archive_name
        await run_in_threadpool(self._audit.add, "job", run.job_id, name, "create", body["conf"])
        return run

    async def _check_again(self, run: Run, params: JobParams) -> None:
        """Cancels the run if its inputs were deleted meanwhile.

        A deletion hides the record first and then looks for runs that use it. So either it finds this run, or this
        check finds that the record is gone.
        """
        try:
            await run_in_threadpool(check_references, params, self._records, self._store)
        except FieldError:
            await cancel(self._airflow, run, "because its inputs were deleted")
            raise


def _new_id(dag_id: str, params: JobParams) -> str:
    """Returns an id for a new run. It decides the port of a shell on this machine, so that port is still free."""
    if params.shell is None or settings().runtime != "local":
        return str(uuid.uuid4())
    ports = settings().shell_port_range
    used = {shell_port(workspace_id(run.dag_id, run.run_id), ports) for run in unfinished_runs()}
    candidates = [str(uuid.uuid4()) for _ in range(_CANDIDATES)]
    unused = (item for item in candidates if shell_port(workspace_id(dag_id, item), ports) not in used)
    return next(unused, candidates[0])


def _create(body: CreateJobIn) -> CreateParams:
    if body.ssh_containers:
        raise UnusableError.of("ssh_containers", "a create job has none")
    return CreateParams(**body.model_dump(exclude=_NOT_PARAMS, exclude_unset=True))


def _customize(body: CustomizeJobIn) -> CustomizeParams:
    params = body.model_dump(exclude=_NOT_PARAMS, exclude_unset=True)
    if body.ssh_containers:
        if len(body.ssh_containers) > 1:
            raise UnusableError.of("ssh_containers", "a job has at most one")
        params |= {"shell_name": body.ssh_containers[0].name, "jail": body.ssh_containers[0].jail}
    return CustomizeParams(**params)
