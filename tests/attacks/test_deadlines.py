"""Whatever never ends by itself is ended: repositories that drip, programs that sleep forever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import AirflowException
from airflow.sdk.execution_time.timeout import timeout

from ims import client
from ims.client import ImsClient
from ims.errors import UnavailableError
from ims.operators.local import LocalStepOperator
from ims.recipes import availability, metadata
from ims.recipes.availability import ask_all, wait_for_all
from ims.recipes.description import Repository
from ims.recipes.metadata import index_digests
from ims.runtime.local import process
from ims.runtime.local.runtime import LocalRuntime
from ims.sandbox import namespaces
from tests.dripping import HEAD, dripping_server
from tests.operators.fakes import RUN_ID, make_context, xcoms
from tests.running import running_commands

NO_CA = Path("/nonexistent/ca.pem")
LIMIT = 1
DRIPS: dict[str, tuple[bytes, bytes, float]] = {
    "the status line": (b"HTTP/1.1 200 O", b"K", 0.05),
    "a header": (b"HTTP/1.1 200 OK\r\nServer: ", b"x", 0.05),
    "endless informational answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
}


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block takes no longer."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@pytest.mark.parametrize(("at_once", "drop", "seconds"), DRIPS.values(), ids=DRIPS)
def test_repository_drips(monkeypatch: pytest.MonkeyPatch, at_once: bytes, drop: bytes, seconds: float) -> None:
    """A job waits no longer than for a repository that is silent."""
    monkeypatch.setattr(availability, "ANSWER_SECONDS", LIMIT)
    with dripping_server(at_once, drop, seconds) as url, within(10 * LIMIT):
        (answer,) = asyncio.run(ask_all([Repository(url, f"{url}/repomd.xml")], NO_CA))
        assert (answer.ready, answer.final, answer.text) == (False, False, "no answer within 1 s")


def test_wait_for_a_dripping_repository_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout of the job counts, not the drops."""
    monkeypatch.setattr(availability, "ANSWER_SECONDS", LIMIT)
    with dripping_server() as url, within(10 * LIMIT):
        waits = wait_for_all([Repository(url, f"{url}/repomd.xml")], NO_CA, until=time.time() + LIMIT, interval=0.1)
        with pytest.raises(UnavailableError, match="no answer within 1 s"):
            asyncio.run(waits)


def test_index_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan, and with it the night, goes on: the repository counts as not available."""
    monkeypatch.setattr(metadata, "INDEX_SECONDS", LIMIT)
    with dripping_server(HEAD) as url, within(10 * LIMIT), pytest.raises(UnavailableError, match="within 1 s"):
        index_digests([Repository(url, f"{url}/repomd.xml")], NO_CA)


def test_index_is_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither stored nor read to its end."""
    monkeypatch.setattr(metadata, "MAX_BYTES", 1024 * 1024)
    with (
        dripping_server(HEAD, b"x" * 65536, 0) as url,
        within(10 * LIMIT),
        pytest.raises(UnavailableError, match="larger than 1048576 bytes"),
    ):
        index_digests([Repository(url, f"{url}/repomd.xml")], NO_CA)


ENDLESS_ANSWERS: dict[str, tuple[str, int, bytes, float]] = {
    "slow": ("BODY_SECONDS", LIMIT, b"x", 0.05),
    "large": ("MAX_BYTES", 1024 * 1024, b"x" * 65536, 0),
}


@pytest.mark.parametrize(("limit", "value", "drop", "seconds"), ENDLESS_ANSWERS.values(), ids=ENDLESS_ANSWERS)
def test_service_answers_without_end(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int, drop: bytes, seconds: float
) -> None:
    """Something else listens at the address of the service: no task and no client reads it forever."""
    monkeypatch.setattr(client, limit, value)
    with (
        dripping_server(HEAD, drop, seconds) as url,
        within(10 * LIMIT),
        pytest.raises(UnavailableError, match="takes"),
    ):
        ImsClient(url).get("recipes")


# Programs

MARK = "98765.4321"
"""How long the programs of these attacks sleep; the number identifies them."""
ENDLESS = f"""
trap '' TERM INT HUP
setsid sh -c 'trap "" TERM; while :; do sleep {MARK}; done' >/dev/null 2>&1 &
while :; do sleep {MARK}; done
"""


def sleeping() -> list[str]:
    """The programs of these attacks that still run."""
    found = (command.replace(b"\0", b" ").decode(errors="replace") for command in running_commands())
    return [command for command in found if MARK in command]


@pytest.mark.system
def test_step_sleeps_forever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, configure: Callable[..., None]) -> None:
    """It ignores signals and hides a process in a session of its own. All its processes end with the limit."""
    configure(home=tmp_path)
    workspace = LocalRuntime().open_workspace(RUN_ID, 1)
    command = [*namespaces.STEP, "sh", "-c", ENDLESS]
    monkeypatch.setattr(process, "step_command", lambda *_: command)
    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)
    task = LocalStepOperator(
        task_id="build_ca_package",
        inputs={"workspace": str(workspace), "package_manager": "apt"},
        execution_timeout=timedelta(seconds=LIMIT),
    )
    context = make_context("create_image")
    with within(20), pytest.raises(AirflowException, match="longer than its limit of 1 s"), timeout(LIMIT):
        task.execute(context)
    wait_until(lambda: not sleeping())
    assert sleeping() == []
    assert xcoms(context)["failure"].endswith("IMS_STEP_SECONDS sets the limits of tasks")
    LocalRuntime().close_workspace(RUN_ID)
    assert not workspace.exists()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition is true, or the time is over."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
