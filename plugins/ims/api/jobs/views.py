"""Jobs as the API describes them: the run in Airflow with the records of its recipe, image and shell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends
from starlette.concurrency import run_in_threadpool

from ims.api.http.services import RecordsService, ShellsService
from ims.api.jobs.schemas import Address, JobOut, ShellState, Step
from ims.api.runs.airflow import AirflowService
from ims.api.runs.every_run import recorded_archs
from ims.api.runs.lists import queue_positions
from ims.api.runs.runs import Run, TaskInstance
from ims.jobs import shell_name, shell_port, workspace_id
from ims.params import ShellSpec, boot_files
from ims.records.models import Image, Recipe, Shell
from ims.settings import settings
from ims.workflows import JobType

DEFAULT_SIZES = {"build_env_size": 60, "job_mem_size": 8}
"""What IMS says of a job that did not set its sizes, in GiB. Such a job takes what it needs."""
SERVICE_PORT = 22
"""The port of the Service in front of a shell."""
ARTIFACTS: dict[JobType, Any] = {"create": Recipe, "customize": Image}


class Describe:
    """Describes runs as jobs."""

    def __init__(self, airflow: AirflowService, records: RecordsService, shells: ShellsService) -> None:
        self._airflow = airflow
        self._records = records
        self._shells = shells

    async def one(self, run: Run) -> JobOut:
        """Describes a job."""
        return (await self.all([run]))[0]

    async def all(self, runs: Sequence[Run]) -> list[JobOut]:
        """Describes jobs, in the order of their runs."""
        positions = await queue_positions(self._airflow, runs)
        jobs = await run_in_threadpool(self._all, runs)
        return [job.model_copy(update={"queue_position": positions.get(job.dag_run_id)}) for job in jobs]

    def _all(self, runs: Sequence[Run]) -> list[JobOut]:
        jobs = [run.job_id for run in runs]
        shells, images = self._shells.of_jobs(jobs), self._records.images_of_jobs(jobs)
        artifacts = {
            job_type: self._records.find_all(kind, [_artifact(run) for run in runs if run.job_type == job_type])
            for job_type, kind in ARTIFACTS.items()
        }
        found = [
            (run, artifacts[run.job_type].get(_artifact(run)), images.get(job), shells.get(job))
            for run, job in zip(runs, jobs, strict=True)
        ]
        unknown = [run for run, artifact, image, _ in found if artifact is None and image is None]
        archs = recorded_archs(unknown) if unknown else {}
        return [_described(*item, archs.get(item[0].job_id)) for item in found]


def _artifact(run: Run) -> str:
    return str(run.conf.get("artifact_id"))


def _described(
    run: Run, artifact: Recipe | Image | None, image: Image | None, shell: Shell | None, recorded_arch: str | None
) -> JobOut:
    """Describes a job. Its architecture is that of its recipe or image, or as it was recorded if both are gone."""
    fields = run.job.model_dump(warnings=False)
    fields |= {name: size for name, size in DEFAULT_SIZES.items() if fields[name] is None}
    arch = next((record.arch for record in (artifact, image) if record is not None), recorded_arch)
    failed = run.failed
    fields |= boot_files.names(fields, {name: getattr(artifact, name, None) for name in boot_files.FIELDS})
    kernel = fields.pop("kernel_file_name") or boot_files.default_kernel(arch)
    dkms = fields.pop("require_dkms")
    return JobOut(
        **{name: value for name, value in fields.items() if name in JobOut.model_fields},
        id=run.job_id,
        created=run.created,
        job_type=run.job_type,
        status=run.status,
        arch=arch,
        kernel_file_name=kernel,
        require_dkms=dkms if dkms is not None else getattr(artifact, "require_dkms", True),
        ssh_containers=[_shell(run, run.job.shell, shell)] if run.job.shell is not None else None,
        started_by=run.user,
        resultant_image_id=image.id if image is not None else None,
        changes=image.changes if image is not None else None,
        failed_step=failed.name if failed is not None else None,
        reason=run.reason,
        log_url=_log_url(run, failed) if failed is not None else _run_url(run),
        dag_id=run.dag_id,
        dag_run_id=run.run_id,
        steps=[_step(run, step) for step in run.steps],
    )


def _shell(run: Run, spec: ShellSpec, shell: Shell | None) -> ShellState:
    if shell is None:
        addresses = {} if run.status in ("success", "error") else _both(_future_address(run))
        return ShellState(name=spec.name, jail=spec.jail, status="pending", connection_info=addresses)
    return ShellState(
        name=shell.name,
        jail=shell.jail,
        status="active" if shell.closed is None else "complete",
        connection_info=_both(Address(host=shell.host, port=shell.port)),
        command=shell.command,
        fingerprint=shell.fingerprint,
        until=shell.until,
    )


def _both(address: Address) -> dict[str, Address]:
    return {"customer_access": address, "cluster.local": address}


def _future_address(run: Run) -> Address:
    """Where the shell of a job will listen; clients of IMS note it when they start the job."""
    own, workspace = settings(), workspace_id(run.dag_id, run.run_id)
    if own.runtime == "kubernetes":
        return Address(host=f"{shell_name(workspace)}.{own.kubernetes_namespace}.svc.cluster.local", port=SERVICE_PORT)
    return Address(host=own.host, port=shell_port(workspace, own.shell_port_range))


def _step(run: Run, step: TaskInstance) -> Step:
    return Step(**step.model_dump(exclude={"name", "map_index"}), name=step.label, log_url=_log_url(run, step))


def _run_url(run: Run) -> str:
    return settings().run_url(run.dag_id, run.run_id)


def _log_url(run: Run, step: TaskInstance) -> str:
    mapped = f"/mapped/{step.map_index}" if step.map_index >= 0 else ""
    return f"{_run_url(run)}/tasks/{step.name}{mapped}"


DescribeService = Annotated[Describe, Depends()]
