"""Ids of jobs. A job is an Airflow run of `create_image` or `customize_image`."""

from __future__ import annotations

import uuid

_NAMESPACE = uuid.UUID("5a1f1c1e-6f0c-4b52-9a53-1f8f3f0c5d0e")


def job_id(run_id: str) -> str:
    """The id of the job that is an Airflow run: the id of the run if that is a UUID, else a UUID derived from it."""
    try:
        is_uuid = str(uuid.UUID(run_id)) == run_id
    except ValueError:
        is_uuid = False
    return run_id if is_uuid else derive_id(run_id)


def workspace_id(dag_id: str, run_id: str) -> str:
    """The id of the workspace of a run: the id of its job, and what tells it from all runs of all workflows.

    The ids of runs are unique only within a DAG, and a UUID may be the id of one run and follow from that of another.
    """
    job = job_id(run_id)
    return f"{job}-{dag_id.replace('_', '-')}" + ("" if job == run_id else "-run")


def shell_name(workspace: str) -> str:
    """The name of the pod and of the Service of the shell of a job, by the id of its workspace."""
    return f"shell-{workspace}"


def shell_port(workspace: str, ports: range) -> int:
    """The port of the shell of a job on this machine, by the id of its workspace: always the same of these ports.

    So it is known before the shell opens, and nothing has to be released when the job ends.
    """
    return ports[uuid.uuid5(_NAMESPACE, workspace).int % len(ports)]


def is_derived_id(job: str) -> bool:
    """Whether a job id may be derived from the id of a run, which is then another."""
    try:
        return uuid.UUID(job).version == 5
    except ValueError:
        return False


def idempotent_run_id(user: str, key: str) -> str:
    """The run id for the request of a user with an idempotency key. The same request always gives the same id."""
    return derive_id(f"{user}\n{key}")


def nightly_run_id(night: str, recipe_id: str) -> str:
    """The id of the run that builds a recipe in the night whose run id is `night`. Another try gives the same id."""
    return derive_id(f"{night}\n{recipe_id}")


def derive_id(text: str) -> str:
    """A UUID that is always the same for the same text."""
    return str(uuid.uuid5(_NAMESPACE, text))
