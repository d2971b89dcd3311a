"""The tasks that open and close the shell of a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from ims.errors import ImsError, MissingError
from ims.operators import shell
from ims.operators.shell import StartShellOperator, StopShellOperator
from ims.runtime.base import ShellRequest
from tests.operators.fakes import ADDRESS, RUN_ID, WORKSPACE_ID, FakeApi, FakeRuntime, make_context


def prepare(monkeypatch: pytest.MonkeyPatch, failure: ImsError | None = None) -> tuple[FakeApi, FakeRuntime]:
    """An API that knows one public key, and a runtime that opens shells unless it is given a failure."""
    api, runtime = FakeApi(**{"public-keys/k1": {"public_key": "ssh-ed25519 AAAA"}}), FakeRuntime(failure)
    monkeypatch.setattr(shell, "api_client", lambda: api)
    monkeypatch.setattr(shell, "runtime", lambda: runtime)
    return api, runtime


def start(public_key_id: str = "k1") -> Any:
    """Run the task."""
    task = StartShellOperator(
        task_id="start_shell",
        workspace="/workspaces/j1",
        arch="x86_64",
        rootfs="/workspaces/j1/rootfs",
        public_key_id=public_key_id,
        name="customize",
        jail=True,
        lease=3600,
        initrd="initrd.img",
    )
    return task.execute(make_context("customize_image"))


def test_start_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime gets the public key; the API gets the address and the end of the lease."""
    api, runtime = prepare(monkeypatch)
    before = datetime.now(UTC)
    assert start() == ADDRESS.model_dump()
    assert runtime.calls == [
        (
            "open_shell",
            ShellRequest(
                workspace="/workspaces/j1",
                rootfs="/workspaces/j1/rootfs",
                public_key="ssh-ed25519 AAAA",
                jail=True,
                name="customize",
                arch="x86_64",
                boot=("vmlinuz", "initrd.img"),
            ),
        )
    ]
    ((method, path, body),) = api.changes
    assert (method, path) == ("PUT", f"jobs/{RUN_ID}/shell")
    until = datetime.fromisoformat(body.pop("until"))
    assert timedelta(0) <= until - before - timedelta(seconds=3600) < timedelta(minutes=1)
    assert body == {
        "name": "customize",
        "jail": True,
        "dag_id": "customize_image",
        "dag_run_id": RUN_ID,
        **ADDRESS.model_dump(),
    }


def test_nothing_to_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that failed early left no image root: the task skips itself, and the job fails with the first reason."""
    api, _ = prepare(monkeypatch, MissingError("there is no image root"))
    with pytest.raises(AirflowSkipException, match="there is no image root"):
        start()
    assert not api.changes


def test_shell_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another try may help."""
    prepare(monkeypatch, ImsError("the shell did not open"))
    with pytest.raises(AirflowException, match="the shell did not open") as caught:
        start()
    assert not isinstance(caught.value, AirflowFailException | AirflowSkipException)


def test_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could log in; this fails the task, although a missing image root only skips it."""
    _, runtime = prepare(monkeypatch)
    with pytest.raises(AirflowFailException, match="public-keys/gone"):
        start("gone")
    assert not runtime.calls


@pytest.mark.parametrize("is_open", [True, False])
def test_stop_shell(monkeypatch: pytest.MonkeyPatch, is_open: bool) -> None:
    """The runtime always closes it. The API may never have heard of it."""
    api, runtime = prepare(monkeypatch)
    if is_open:
        api.answers[f"jobs/{RUN_ID}/shell"] = {}
    StopShellOperator(task_id="stop_shell").execute(make_context())
    assert runtime.calls == [("close_shell", WORKSPACE_ID)]
    assert api.changes == ([("DELETE", f"jobs/{RUN_ID}/shell", None)] if is_open else [])
