"""The executor: it waits for tasks, starts workers that end with the scheduler, and adopts running tasks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

# A scheduler with an idle worker, and one with a worker that runs a task. Both are killed.
SCHEDULER = """\
import os, sys, time
from ims.executor import TITLE, Executor, WorkloadQueue
from setproctitle import setproctitle

queue = WorkloadQueue()
if os.fork() == 0:
    os.setsid()
    if sys.argv[1] == "busy":
        queue.put(None)
        queue.get()
        setproctitle(TITLE + sys.argv[2])
        print(os.getpid(), flush=True)
        sys.stdin.readline()
        print("a line of the log of the task", flush=True)
        open(sys.argv[3], "w").close()
    else:
        print(os.getpid(), flush=True)
    try:
        queue.get()
    except EOFError:
        os._exit(0)
time.sleep(60)
"""

# A worker that is idle until its standard input is closed, and then runs a task.
WORKER = """\
import sys, time
from setproctitle import setproctitle

setproctitle(sys.argv[1] + "<idle>")
print(flush=True)
sys.stdin.read()
setproctitle(sys.argv[1] + "task")
print(flush=True)
time.sleep(60)
"""


def scheduler(*arguments: str) -> tuple[subprocess.Popen[str], int]:
    """Start a scheduler; returns it and the process ID of its worker."""
    command = [sys.executable, "-c", SCHEDULER, *arguments]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    return started, int(started.stdout.readline())


def kill(started: subprocess.Popen[str]) -> None:
    """Kill a scheduler."""
    os.kill(started.pid, signal.SIGKILL)
    started.wait()


def ends(pid: int, seconds: float) -> bool:
    """Whether a process ends in this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            if file.read().rpartition(")")[2].split()[0] == "Z":
                return True
        time.sleep(0.05)
    return False


def adopted(*ids: str) -> list[str]:
    """Return which of these tasks an executor adopts."""
    from ims.executor import Executor

    tasks = [SimpleNamespace(id=name) for name in ids]
    left = Executor.try_adopt_task_instances(cast(Any, None), cast(Any, tasks))
    return [task.id for task in tasks if task not in left]


@pytest.mark.system
def test_idle_worker_ends_with_the_scheduler() -> None:
    """It would otherwise stay and keep the memory of the scheduler."""
    started, worker = scheduler("idle")
    assert not ends(worker, 0.5)
    kill(started)
    assert ends(worker, 10)


@pytest.mark.system
def test_task_outlives_the_scheduler(tmp_path: Path) -> None:
    """The next scheduler adopts a task that runs, and does not start it a second time. Then its worker ends.

    Nobody reads the log of the worker any more.
    """
    started, worker = scheduler("busy", "task-that-runs", str(tmp_path / "done"))
    assert adopted("task-that-runs", "another") == ["task-that-runs"]
    kill(started)
    assert adopted("task-that-runs", "another") == ["task-that-runs"]
    assert started.stdin is not None
    assert started.stdout is not None
    started.stdout.close()
    started.stdin.close()
    assert ends(worker, 10)
    assert (tmp_path / "done").exists()
    assert adopted("task-that-runs") == []


def test_end_of_a_task_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler waits for a task to end, but not if it has just started as many as it looks for at a time."""
    from airflow.executors.local_executor import LocalExecutor

    from ims import executor

    monkeypatch.setattr(LocalExecutor, "_process_workloads", lambda self, workloads: None)
    monkeypatch.setattr(LocalExecutor, "_check_workers", lambda self: None)
    monkeypatch.setattr(executor, "WAIT_SECONDS", 30)
    monkeypatch.setattr(executor, "IDLE_WAIT_SECONDS", 30)
    running = executor.Executor(parallelism=1)  # type: ignore[no-untyped-call]
    running.result_queue = multiprocessing.SimpleQueue()
    seen: list[object] = []
    monkeypatch.setattr(running, "change_state", lambda key, state: seen.append((key, state)))
    begin = time.monotonic()
    running._process_workloads(cast(Any, ["a task"] * 16))
    running.sync()
    assert seen == []
    running._process_workloads(cast(Any, ["a task"]))
    running.result_queue.put(cast(Any, ("a task", "success", None)))
    running.sync()
    assert seen == [("a task", "success")]
    assert time.monotonic() - begin < 15


@pytest.mark.system
def test_workers_start_when_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a worker for each task that waits, and no more than the parallelism. Idle ones are used again."""
    from ims import executor

    started: list[int] = []

    def spawn(self: executor.Executor) -> None:
        command = [sys.executable, "-c", WORKER, executor.TITLE]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        self.workers[process.pid] = cast(Any, SimpleNamespace(is_alive=lambda: True, process=process))
        started.append(process.pid)

    def tasks(number: int) -> None:
        running._unread_messages.value = number
        running.activity_queue.put(None)
        running._check_workers()  # type: ignore[no-untyped-call]

    monkeypatch.setattr(executor.Executor, "_spawn_worker", spawn)
    running = executor.Executor(parallelism=3)  # type: ignore[no-untyped-call]
    running.start()
    assert started == []
    tasks(1)
    assert len(started) == 1
    tasks(1)
    assert len(started) == 1
    tasks(2)
    assert len(started) == 2
    for worker in cast(Any, running.workers.values()):
        worker.process.stdin.close()
        worker.process.stdout.readline()
    tasks(4)
    assert len(started) == 3
    for worker in cast(Any, running.workers.values()):
        worker.process.kill()
        worker.process.wait()
