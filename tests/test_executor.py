"""The executor: it waits for tasks, starts workers that end with the scheduler, and adopts running tasks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from setproctitle import setproctitle

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
    monkeypatch.setattr(executor.Executor, "_check_workers", lambda self: None)
    monkeypatch.setattr(executor, "WAIT_SECONDS", 30)
    monkeypatch.setattr(executor, "IDLE_WAIT_SECONDS", 30)
    running = executor.Executor(parallelism=1)  # type: ignore[no-untyped-call]
    running.start()
    seen: list[object] = []
    monkeypatch.setattr(running, "change_state", lambda key, state: seen.append((key, state)))
    begin = time.monotonic()
    task = SimpleNamespace(key="a task", display_name="a task")
    running._process_workloads(cast(Any, [task] * 16))
    running.sync()
    assert seen == []
    running._process_workloads(cast(Any, [task]))
    running.result_queue.put(("a task", "success", None))
    running.sync()
    assert seen == [("a task", "success")]
    assert time.monotonic() - begin < 15


def test_workers_start_when_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a worker for each task, and no more than the parallelism. Idle ones are used again."""
    from ims import executor

    def spawn(self: executor.Executor) -> None:
        self.workers[len(self.workers)] = cast(Any, SimpleNamespace(is_alive=lambda: True))

    def workers(tasks: int) -> int:
        running._tasks = {cast(Any, number): "task" for number in range(tasks)}
        running._check_workers()
        return len(running.workers)

    monkeypatch.setattr(executor.Executor, "_spawn_worker", spawn)
    running = executor.Executor(parallelism=3)  # type: ignore[no-untyped-call]
    running.start()
    assert [workers(tasks) for tasks in (0, 1, 0, 1, 2, 4)] == [0, 1, 1, 1, 2, 3]


class Tasks:
    """Tasks that an executor runs with real workers. A task is a process that writes its PID and then sleeps."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow.executors.base_executor import BaseExecutor

        from ims import executor

        def run(workload: SimpleNamespace, *, proctitle: str, **_: object) -> None:
            setproctitle(proctitle)
            if os.fork() == 0:
                (folder / workload.display_name).write_text(f"{os.getppid()} {os.getpid()}")
                time.sleep(0 if workload.is_short else 60)
                os._exit(0)
            os.wait()

        monkeypatch.setattr(BaseExecutor, "run_workload", run)
        self.folder = folder
        self.executor = executor.Executor(parallelism=3)  # type: ignore[no-untyped-call]
        fail = partial(self.executor.change_state, state=cast(Any, "failed"))
        monkeypatch.setattr(self.executor, "fail", lambda key, info: fail(key, info=info))
        self.executor.start()

    def start(self, name: str, *, is_short: bool = False) -> None:
        """Start a task."""
        states = {"running_state": None, "success_state": "success", "failure_state": "failed"}
        task = SimpleNamespace(key=name, display_name=name, is_short=is_short, **states)
        self.executor.queued_tasks[cast(Any, name)] = cast(Any, task)
        self.executor._process_workloads(cast(Any, [task]))

    def processes(self, name: str) -> tuple[int, int]:
        """The PIDs of the worker and of the process of a task, when it has started."""
        self.until(lambda: (self.folder / name).exists() and (self.folder / name).read_text())
        worker, task = (self.folder / name).read_text().split()
        return int(worker), int(task)

    def until(self, condition: Callable[[], object]) -> None:
        """Let the executor work until a condition holds."""
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            self.executor.sync()

    def states(self) -> dict[str, str]:
        """The states of the tasks that have ended."""
        return {str(key): str(state) for key, (state, _) in self.executor.event_buffer.items()}


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tasks]:
    """Tasks, which end with the test."""
    made = Tasks(tmp_path, monkeypatch)
    yield made
    for pid in made.executor.workers:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.system
def test_task_of_a_killed_worker_fails(tasks: Tasks) -> None:
    """The scheduler tries it again at once. Its process ends, too; other tasks go on."""
    for name in ("killed", "other"):
        tasks.start(name)
    worker, task = tasks.processes("killed")
    _, other = tasks.processes("other")
    os.kill(worker, signal.SIGKILL)
    tasks.until(tasks.states)
    assert tasks.states() == {"killed": "failed"}
    assert ends(task, 5)
    assert not ends(other, 0.1)


@pytest.mark.system
def test_kill_of_workers_that_wait(tasks: Tasks) -> None:
    """Nothing that they had keeps others from taking the next tasks."""
    for name in ("first", "second"):
        tasks.start(name, is_short=True)
    tasks.until(lambda: len(tasks.states()) == 2)
    for pid in tasks.executor.workers:
        os.kill(pid, signal.SIGKILL)
        assert ends(pid, 5)
    for name in ("third", "fourth"):
        tasks.start(name, is_short=True)
    tasks.until(lambda: len(tasks.states()) == 4)
    assert set(tasks.states().values()) == {"success"}
