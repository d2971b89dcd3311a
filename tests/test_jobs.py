"""The ids of jobs and of their workspaces."""

from __future__ import annotations

from itertools import product
from uuid import uuid4

from ims.jobs import derive_id, is_derived_id, job_id, shell_name, shell_port, workspace_id
from ims.workflows import DAG_IDS, JOB_DAG_IDS

RUN = str(uuid4())
MANUAL = "manual__2026-11-27T03:00:00+00:00"


def test_workspace_is_named_after_its_job() -> None:
    """An operator finds the workspace, the pods and the volume of a job by its id."""
    assert workspace_id("create_image", RUN) == f"{RUN}-create-image"
    assert workspace_id("create_image", MANUAL) == f"{job_id(MANUAL)}-create-image-run"


def test_no_two_runs_share_a_workspace() -> None:
    """Neither runs of two workflows with one id, nor a run whose id is the job id of another."""
    runs = (RUN, MANUAL, derive_id(MANUAL), derive_id(derive_id(MANUAL)), "..", "a/../b")
    names = [workspace_id(dag_id, run) for dag_id, run in product(DAG_IDS, runs)]
    assert len(set(names)) == len(names)


def test_id_of_a_workspace_is_a_name() -> None:
    """It names a folder, and objects of a cluster, whose names have at most 63 characters."""
    for dag_id, run in product(DAG_IDS, (RUN, "../../etc", "x" * 1000)):
        name = workspace_id(dag_id, run)
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert len(f"shell-{name}") <= 63 or dag_id == "image_maintenance"  # which has no shell


def test_derived_ids() -> None:
    """The ids that the service derives are known from others, so that users cannot take them."""
    assert is_derived_id(derive_id("night"))
    assert not is_derived_id(RUN)
    assert not is_derived_id(MANUAL)


def test_port_of_a_shell_follows_from_its_workspace() -> None:
    """It is always the same one, and all ports are used."""
    ports = range(10000, 10010)
    workspaces = [workspace_id("customize_image", str(uuid4())) for _ in range(500)]
    assert {shell_port(workspace, ports) for workspace in workspaces} == set(ports)
    assert all(shell_port(workspace, ports) == shell_port(workspace, ports) for workspace in workspaces)
    assert shell_port(workspaces[0], range(22, 23)) == 22


def test_name_of_a_shell_is_the_name_of_a_service() -> None:
    """Names of Services have at most 63 characters."""
    for dag_id, run in product(JOB_DAG_IDS, (RUN, MANUAL)):
        assert len(shell_name(workspace_id(dag_id, run))) <= 63
