"""Fakes of what an operator calls: the task instance, the API, the runtime and the object store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from airflow.sdk import Context

from ims.cleaning import Finding
from ims.errors import ImsError, MissingError
from ims.runtime.base import ShellAddress, ShellRequest
from ims.storage.objects import ObjectName, StoredObject

RUN_ID = "6f1d2a52-9a1e-4b57-9c3f-0d5a1f6a7b11"
WORKSPACE_ID = f"{RUN_ID}-create-image"
ADDRESS = ShellAddress(host="192.0.2.1", port=2022, fingerprint="SHA256:abc", command="ssh -p 2022 root@192.0.2.1")


class FakeTaskInstance:
    """Keeps the XComs that a task pushes."""

    map_index = -1

    def __init__(self, task_id: str, existing_runs: Collection[str]) -> None:
        self.task_id = task_id
        self.xcoms: dict[str, Any] = {}
        self.pushed: dict[tuple[str, str], Any] = {}
        self.existing_runs = existing_runs if isinstance(existing_runs, Mapping) else dict.fromkeys(existing_runs)

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep a value."""
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        """What the context was given that another task pushed, or None."""
        return self.pushed.get((task_ids, key))

    def get_dr_count(self, dag_id: str, run_ids: Collection[str], states: Collection[str] | None = None) -> int:
        """The number of these runs that exist and have one of the states, whatever their DAG."""
        found = set(run_ids) & set(self.existing_runs)
        return len([run for run in found if states is None or self.existing_runs[run] in states])


def make_context(
    dag_id: str = "create_image", existing_runs: Collection[str] = (), task_id: str | None = None, **params: Any
) -> Context:
    """The context of a task in a run with these parameters.

    `existing_runs` are other runs that Airflow knows; a dictionary gives their states.

    The task runs what a recipe says if the workflow has such a task.
    """
    task_id = task_id or ("build_image" if dag_id == "create_image" else "close_workspace")
    context = {
        "ti": FakeTaskInstance(task_id, existing_runs),
        "run_id": RUN_ID,
        "params": params,
        "dag": SimpleNamespace(dag_id=dag_id),
    }
    return cast("Context", context)


def xcoms(context: Context) -> dict[str, Any]:
    """The XComs that a task pushed."""
    return cast("Any", context)["ti"].xcoms  # type: ignore[no-any-return]


class FakeApi:
    """Answers requests from `answers`, by path, and keeps the requests that change something."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = answers
        self.changes: list[tuple[str, str, Any]] = []
        self.failures: dict[str, ImsError] = {}

    def get(self, path: str, **_query: Any) -> Any:
        """The answer for a path. Raises MissingError: there is none."""
        if path not in self.answers:
            raise MissingError(f"there is nothing at {path}")
        answer = self.answers[path]
        if isinstance(answer, ImsError):
            raise answer
        return answer

    def record(self, kind: str, identity: str) -> Any:
        """A record."""
        return self.get(f"{kind}/{identity}")

    def call(self, method: str, path: str, *, json: Any = None, **_options: Any) -> Any:
        """Keep a request; the answer is that for the path, else the body. Raises the answer if it is an error."""
        answer = self.answers.get(path, {"id": path.rpartition("/")[2], **json})
        if isinstance(answer, ImsError):
            raise answer
        self.changes.append((method, path, json))
        return answer

    def update(self, path: str, **fields: Any) -> None:
        """Keep a PATCH request. Raises the error that `failures` has for the path."""
        if path in self.failures:
            raise self.failures[path]
        self.changes.append(("PATCH", path, fields))

    def delete(self, path: str) -> None:
        """Keep a DELETE request. Raises MissingError: there is nothing to delete."""
        self.get(path)
        self.changes.append(("DELETE", path, None))


class FakeRuntime:
    """Keeps what it is asked to do. `failure` is raised by `open_shell`."""

    def __init__(self, failure: ImsError | None = None, found: list[Finding] | None = None) -> None:
        self.failure = failure
        self.shortages: list[str] = []
        self.found = found or []
        self.calls: list[tuple[Any, ...]] = []

    def shortage(self) -> str | None:
        """The next of the reasons to wait that the test prepared, or None."""
        return self.shortages.pop(0) if self.shortages else None

    def open_workspace(self, job_id: str, size_gib: int) -> Path:
        """A workspace that does not exist."""
        self.calls.append(("open_workspace", job_id, size_gib))
        return Path("/workspaces") / job_id

    def close_workspace(self, job_id: str) -> None:
        """Nothing happens."""
        self.calls.append(("close_workspace", job_id))

    def open_shell(self, request: ShellRequest) -> ShellAddress:
        """An address at which nothing listens."""
        self.calls.append(("open_shell", request))
        if self.failure is not None:
            raise self.failure
        return ADDRESS

    def close_shell(self, job_id: str) -> None:
        """Nothing happens."""
        self.calls.append(("close_shell", job_id))

    def leftovers(self, running_jobs: Callable[[], Collection[str]], hours: int) -> list[Finding]:
        """What the test prepared."""
        self.calls.append(("leftovers", list(running_jobs()), hours))
        return self.found


class FakeStore:
    """Keeps the objects in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def write_bytes(self, name: ObjectName, data: bytes) -> str:
        """Keep an object; returns its etag."""
        self.objects[str(name)] = data
        return "etag-1"

    def read_bytes(self, name: ObjectName, _limit: int) -> bytes:
        """An object. Raises MissingError."""
        if str(name) not in self.objects:
            raise MissingError(f"there is no object {name}")
        return self.objects[str(name)]

    def stat(self, name: ObjectName) -> StoredObject:
        """The size and the etag of an object. Raises MissingError."""
        return StoredObject(len(self.read_bytes(name, 0)), "etag-1", {})

    def delete_prefix(self, bucket: str, prefix: str) -> int:
        """Delete the objects with a prefix; returns their number."""
        doomed = [name for name in self.objects if name.startswith(f"s3://{bucket}/{prefix}")]
        for name in doomed:
            del self.objects[name]
        return len(doomed)
