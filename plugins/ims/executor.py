"""Airflow's LocalExecutor with two changes: what follows a task starts at once, and tasks outlive a killed scheduler.

Airflow's scheduler sleeps for a fixed time when nothing is to be done. With this executor, it waits at most that long
for a task to end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection, queues
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.executors.local_executor import LocalExecutor

from ims.sandbox.kernel import die_with_parent

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecutorWorkload
    from airflow.models.taskinstance import TaskInstance

WAIT_SECONDS = 0.5
"""How long the scheduler waits for the end of a task, and so, how long a new run or a fired trigger waits at most."""
TITLE = "airflow worker -- LocalExecutor: "
"""The title of a worker starts with this; the ID of its task, or `<idle>`, follows."""


class WorkloadQueue(queues.SimpleQueue):  # type: ignore[type-arg]
    """The queue from which the workers take tasks. When the scheduler ends, `get` ends the workers.

    Each worker keeps the writing end open for the others, so they would wait forever.
    """

    def __init__(self) -> None:
        super().__init__(ctx=multiprocessing.get_context())
        self._scheduler = os.getpid()
        self._is_waiting = False

    def get(self) -> Any:
        """Return the next workload. Raises EOFError, which ends the worker, if the scheduler has ended."""
        self._is_waiting = True
        try:
            signal.signal(signal.SIGHUP, self._end)
            die_with_parent(signal.SIGHUP)
            if os.getppid() != self._scheduler:
                self._end()
            return super().get()
        finally:
            self._is_waiting = False

    def _end(self, *_: object) -> None:
        """End a worker that waits. Otherwise, let its task run to its end.

        A task reports its state to the API, which the next scheduler reads. The log of the scheduler is closed.
        """
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        if self._is_waiting:
            raise EOFError


class Executor(LocalExecutor):
    """Runs each task in a process that is forked from a worker."""

    _has_started = False

    def sync(self) -> None:
        """Wait for the end of a task, unless tasks were just started: there may be more to start."""
        if not self._has_started:
            connection.wait([self.result_queue._reader], WAIT_SECONDS)  # type: ignore[attr-defined]
        self._has_started = False
        super().sync()

    def try_adopt_task_instances(self, tis: Sequence[TaskInstance]) -> Sequence[TaskInstance]:
        """Return those tasks of a scheduler that has ended which no worker runs. Airflow starts them again."""
        running = set(running_tasks())
        return [task for task in tis if str(task.id) not in running]

    def _process_workloads(self, workload_list: Sequence[ExecutorWorkload]) -> None:
        super()._process_workloads(workload_list)  # type: ignore[no-untyped-call]
        self._has_started = bool(workload_list)

    def _spawn_worker(self) -> None:
        if not isinstance(self.activity_queue, WorkloadQueue):
            self.activity_queue = WorkloadQueue()
        super()._spawn_worker()  # type: ignore[no-untyped-call]


def running_tasks() -> Iterator[str]:
    """Yield the IDs of the tasks that workers of this user run, even if their scheduler has ended."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == os.geteuid():
                title = (process / "cmdline").read_bytes().rstrip(b"\0 ").decode(errors="replace")
                if title.startswith(TITLE):
                    yield title.removeprefix(TITLE)
