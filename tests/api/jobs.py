"""Recipes and keys to start jobs with, and requests that both `POST /jobs` and Airflow's own API refuse."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from tests.api.wire import V3, Refused
from tests.service import Service

JOBS = f"{V3}/jobs"
DAG = "/api/v2/dags/create_image"
RUNS = f"{DAG}/dagRuns"
ABSENT: Any = object()


@dataclass(frozen=True)
class Inputs:
    """A public key and recipes. Only `garbage` can be built; its job fails within seconds."""

    key: str
    garbage: str
    unlinked: str
    packer: str
    aarch64: str
    deleted: str

    def fields(self, **changes: Any) -> dict[str, Any]:
        """Returns the fields of a job. A value `<name>` becomes the id of that recipe; ABSENT leaves the field out."""
        fields = {
            "artifact_id": self.garbage,
            "public_key_id": self.key,
            "image_root_archive_name": f"image-{uuid4().hex[:8]}",
            **changes,
        }
        ids = {f"<{name}>": identity for name, identity in vars(self).items()}
        return {
            name: ids.get(value, value) if isinstance(value, str) else value
            for name, value in fields.items()
            if value is not ABSENT
        }


def make_inputs(service: Service) -> Inputs:
    """Registers them."""

    def recipe(**fields: Any) -> str:
        record = {"name": "x", "recipe_type": "kiwi-ng", "linux_distribution": "sles15", **fields}
        return str(service.client.create("recipes", **record)["id"])

    def link() -> dict[str, str]:
        return {"path": service.upload_recipe(b"garbage")}

    deleted = recipe(link=link())
    service.client.delete(f"recipes/{deleted}")
    return Inputs(
        key=service.public_key(),
        garbage=recipe(link=link()),
        unlinked=recipe(),
        packer=recipe(recipe_type="packer", link=link()),
        aarch64=recipe(arch="aarch64", link=link()),
        deleted=deleted,
    )


# The field that is wrong is the first that `sent` changes.
REFUSED = {
    "unknown": Refused({"colour": "red"}, 422),
    "arch": Refused({"arch": "x86_64"}, 422),
    "no artifact": Refused({"artifact_id": ABSENT}, 422),
    "no name": Refused({"image_root_archive_name": ABSENT}, 422),
    "artifact null": Refused({"artifact_id": None}, 422),
    "artifact no UUID": Refused({"artifact_id": "zzz"}, 422),
    "artifact number": Refused({"artifact_id": 1}, 422),
    "artifact unknown": Refused({"artifact_id": str(uuid4())}, 400),
    "artifact deleted": Refused({"artifact_id": "<deleted>"}, 400),
    "artifact unlinked": Refused({"artifact_id": "<unlinked>"}, 400),
    "artifact packer": Refused({"artifact_id": "<packer>"}, 400),
    "artifact aarch64": Refused({"artifact_id": "<aarch64>"}, 400),
    "key unknown": Refused({"public_key_id": str(uuid4())}, 400),
    "key no UUID": Refused({"public_key_id": "zzz"}, 422),
    "key a recipe": Refused({"public_key_id": "<garbage>"}, 400),
    "artifact a key": Refused({"artifact_id": "<key>"}, 400),
    "name empty": Refused({"image_root_archive_name": ""}, 422),
    "name null": Refused({"image_root_archive_name": None}, 422),
    "name list": Refused({"image_root_archive_name": ["x"]}, 422),
    "name long": Refused({"image_root_archive_name": "x" * 1025}, 422),
    "name NUL": Refused({"image_root_archive_name": "a\0b"}, 422),
    "debug word": Refused({"enable_debug": "perhaps"}, 422),
    "space zero": Refused({"build_env_size": 0}, 422),
    "space negative": Refused({"build_env_size": -1}, 422),
    "space fraction": Refused({"build_env_size": 1.5}, 422),
    "space word": Refused({"build_env_size": "much"}, 422),
    "space beyond reason": Refused({"build_env_size": 10**30}, 422),
    "memory zero": Refused({"job_mem_size": 0}, 422),
    "memory list": Refused({"job_mem_size": [4]}, 422),
    "kernel path": Refused({"kernel_file_name": "../vmlinuz"}, 422),
    "kernel dots": Refused({"kernel_file_name": "..."}, 422),
    "kernel line break": Refused({"kernel_file_name": "vmlinuz\n"}, 422),
    "initrd path": Refused({"initrd_file_name": "boot/initrd"}, 422),
    "initrd number": Refused({"initrd_file_name": 1}, 422),
    "parameters dot": Refused({"kernel_parameters_file_name": ".."}, 422),
    "dkms word": Refused({"require_dkms": "perhaps"}, 422),
    "network of a build": Refused({"network": "none"}, 422),
    "timeout zero": Refused({"repository_timeout": 0}, 422),
}


def wrong_field(case: Refused) -> str:
    """Returns the name of the invalid field."""
    return str(next(iter(case.sent)))


def runs(api: httpx.Client) -> set[str]:
    """Returns the ids of all runs."""
    answer = api.get(RUNS, params={"limit": 100, "order_by": "-run_after"})
    assert answer.status_code == 200, answer.text
    return {run["dag_run_id"] for run in answer.json()["dag_runs"]}


def run_state(api: httpx.Client, run_id: str, timeout: float = 120) -> str:
    """Waits until a run has ended; returns its state in Airflow."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        state = str(api.get(f"{RUNS}/{run_id}").json()["state"])
        if state in ("success", "failed"):
            return state
        time.sleep(0.3)
    raise TimeoutError(f"the run {run_id} did not end in {timeout} s")
