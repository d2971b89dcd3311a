"""Airflow's LocalExecutor with three changes.

What follows a task starts at once, tasks outlive a killed scheduler, and workers start when a task needs them.

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

from airflow.configuration import conf
from airflow.executors.local_executor import LocalExecutor

from ims.sandbox.kernel import die_with_parent

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecutorWorkload
    from airflow.models.taskinstance import TaskInstance

WAIT_SECONDS = 0.5
"""How long the scheduler waits for the end of a task, and so, how long a new run or a fired trigger waits at most."""
IDLE_WAIT_SECONDS = 1.0
"""The same while no task runs. Each look of the scheduler takes 0.02 s of a processor."""
IDLE = "<idle>"
TITLE = "airflow worker -- LocalExecutor: "
"""The title of a worker starts with this; the ID of its task, or IDLE, follows."""


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

    _may_start_more = False

    def start(self) -> None:
        """Make the queues. No worker starts yet."""
        super().start()
        self.activity_queue = WorkloadQueue()

    def sync(self) -> None:
        """Wait for the end of a task, unless there may be more tasks to start."""
        if not self._may_start_more:
            seconds = WAIT_SECONDS if self.running else IDLE_WAIT_SECONDS
            connection.wait([self.result_queue._reader], seconds)  # type: ignore[attr-defined]
        self._may_start_more = False
        super().sync()

    def try_adopt_task_instances(self, tis: Sequence[TaskInstance]) -> Sequence[TaskInstance]:
        """Return those tasks of a scheduler that has ended which no worker runs. Airflow starts them again."""
        running = set(running_tasks())
        return [task for task in tis if str(task.id) not in running]

    def _process_workloads(self, workload_list: Sequence[ExecutorWorkload]) -> None:
        super()._process_workloads(workload_list)  # type: ignore[no-untyped-call]
        # The scheduler looks for so many tasks at a time.
        self._may_start_more = len(workload_list) >= conf.getint("scheduler", "max_tis_per_query")

    def _spawn_workers_with_gc_freeze(self, spawn_number: int) -> None:
        """Start the workers that are missing for the tasks that wait, rather than `spawn_number`: each takes 30 MB.

        A worker that just took a task may still look idle. The next `sync` then starts another one.
        """
        busy = sum(is_busy(Path(f"/proc/{pid}")) for pid in self.workers)
        missing = self._unread_messages.value - (len(self.workers) - busy)
        super()._spawn_workers_with_gc_freeze(max(0, min(missing, spawn_number)))  # type: ignore[no-untyped-call]


def running_tasks() -> Iterator[str]:
    """Yield the IDs of the tasks that workers of this user run, even if their scheduler has ended."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == os.geteuid() and (title := title_of(process)).startswith(TITLE):
                yield title.removeprefix(TITLE)


def is_busy(worker: Path) -> bool:
    """Whether a worker runs a task. One that starts does not have its title yet."""
    title = title_of(worker)
    return title.startswith(TITLE) and title != TITLE + IDLE


def title_of(process: Path) -> str:
    """The title of the process with a folder in /proc; empty if it has ended."""
    try:
        return (process / "cmdline").read_bytes().rstrip(b"\0 ").decode(errors="replace")
    except OSError:
        return ""
