"""The tasks of the maintenance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from ims.cleaning import Finding
from ims.errors import UnavailableError
from ims.operators import maintenance
from ims.operators.conditions import none_of
from ims.operators.maintenance import KEPT_ITEMS, CleanRecordsOperator, CleanWorkspacesOperator
from ims.settings import settings
from tests.operators.fakes import FakeApi, FakeRuntime, make_context


def prepare(monkeypatch: pytest.MonkeyPatch, *found: Finding, **answers: Any) -> tuple[FakeApi, FakeRuntime]:
    """An API with these answers, and a runtime in which ended jobs left these things."""
    api, runtime = FakeApi(**answers), FakeRuntime(found=list(found))
    monkeypatch.setattr(maintenance, "api_client", lambda: api)
    monkeypatch.setattr(maintenance, "runtime", lambda: runtime)
    return api, runtime


def finding(name: str, remove: Callable[[], bool] = lambda: True) -> Finding:
    """A workspace of ten bytes."""
    return Finding("workspaces", name, 10, remove)


@pytest.mark.parametrize("list_only", [True, False])
def test_records(monkeypatch: pytest.MonkeyPatch, list_only: bool) -> None:
    """The API decides; the result has the first names only."""
    freed = [{"kind": "images", "count": 150, "bytes": 7, "items": [f"i{number}" for number in range(150)]}]
    api, _ = prepare(monkeypatch, maintenance={"freed": freed, "failed": []})
    (result,) = CleanRecordsOperator(task_id="records", list_only=list_only).execute(make_context())
    assert api.changes == [("POST", "maintenance", {"dry_run": list_only})]
    assert (result["count"], result["bytes"], len(result["items"])) == (150, 7, KEPT_ITEMS)


def test_records_that_cannot_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task fails after the API removed all others."""
    prepare(monkeypatch, maintenance={"freed": [], "failed": ["objects s3://b/k (S3 is away)"]})
    with pytest.raises(AirflowException, match=r"1 items cannot be removed: objects s3://b/k \(S3 is away\)"):
        CleanRecordsOperator(task_id="records", list_only=False).execute(make_context())


def test_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks that remove items skip themselves."""
    api, _ = prepare(monkeypatch)
    with pytest.raises(AirflowSkipException):
        CleanRecordsOperator(task_id="records", list_only=False, run_if=none_of(True)).execute(make_context())
    assert not api.changes


def test_list_workspaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is removed. The API says which jobs still run."""
    removed: list[str] = []

    def remove() -> bool:
        removed.append("j1")
        return True

    _, runtime = prepare(monkeypatch, finding("j1", remove), maintenance={"workspaces": ["j2"]})
    (result,) = CleanWorkspacesOperator(task_id="workspaces", list_only=True).execute(make_context())
    assert (result["kind"], result["count"], result["items"]) == ("workspaces", 1, ["j1"])
    assert runtime.calls == [("leftovers", ["j2"], settings().orphan_hours)]
    assert not removed


def test_sweep_workspaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that is in use by now stays and is not counted."""
    prepare(monkeypatch, finding("j1"), finding("busy", lambda: False), maintenance={"workspaces": []})
    (result,) = CleanWorkspacesOperator(task_id="workspaces", list_only=False).execute(make_context())
    assert (result["count"], result["bytes"], result["items"]) == (1, 10, ["j1"])


def test_nothing_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is empty."""
    prepare(monkeypatch, maintenance={"workspaces": []})
    assert CleanWorkspacesOperator(task_id="workspaces", list_only=False).execute(make_context()) == []


def test_items_that_cannot_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other items are removed all the same; then the task fails, and another try may help."""
    removed: list[str] = []

    def fail(error: Exception) -> Callable[[], bool]:
        def remove() -> bool:
            raise error

        return remove

    def last() -> bool:
        removed.append("j3")
        return True

    prepare(
        monkeypatch,
        finding("j1", fail(UnavailableError("the cluster does not answer"))),
        finding("j2", fail(PermissionError("no"))),
        finding("deep", fail(RecursionError("too deep"))),
        finding("j3", last),
        maintenance={"workspaces": []},
    )
    reason = r"3 items .*: workspaces j1 \(the cluster .*, workspaces j2 \(no\), workspaces deep \(too deep\)"
    with pytest.raises(AirflowException, match=reason):
        CleanWorkspacesOperator(task_id="workspaces", list_only=False).execute(make_context())
    assert removed == ["j3"]
