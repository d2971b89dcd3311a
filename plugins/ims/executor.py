"""Airflow's LocalExecutor with four changes.

What follows a task starts at once, tasks outlive a killed scheduler, the task of a killed worker fails at once instead
of after Airflow's timeout of five minutes, and workers start when a task needs them.

Airflow's scheduler sleeps for a fixed time when nothing is to be done. With this executor, it waits at most that long
for a task to end.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.executors.local_executor import LocalExecutor

from ims.sandbox.kernel import die_with_parent

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecutorWorkload
    from airflow.executors.workloads.types import WorkloadKey, WorkloadState
    from airflow.models.taskinstance import TaskInstance

WAIT_SECONDS = 0.5
"""How long the scheduler waits for the end of a task, and so, how long a new run or a fired trigger waits at most."""
IDLE_WAIT_SECONDS = 1.0
"""The same while no task runs. Each look of the scheduler takes 0.02 s of a processor."""
LOST_SECONDS = 2.0
_MESSAGE_BYTES = 1 << 20
TITLE = "airflow worker -- LocalExecutor: "
"""The title of a worker starts with this; the ID of its task follows, or `<idle>`."""


class MessageQueue:
    """A queue between processes that works without a lock, which a killed process would keep forever.

    The kernel gives each message in one piece to one reader.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def put(self, item: object) -> None:
        """Add an object that can be pickled. Raises OSError if it is larger than a message can be."""
        self._writer.send(pickle.dumps(item))

    def get(self) -> Any:
        """Wait for an object and return it."""
        return pickle.loads(self._reader.recv(_MESSAGE_BYTES))  # noqa: S301

    def empty(self) -> bool:
        """Whether `get` would wait."""
        return not self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Wait for an object, but no longer than that; returns whether there is one."""
        return bool(connection.wait([self._reader], seconds))

    def close(self) -> None:
        """Close both ends of this process."""
        self._reader.close()
        self._writer.close()


class WorkloadQueue(MessageQueue):
    """The queue from which the workers take tasks. When the scheduler ends, `get` ends the workers.

    Each worker keeps the writing end open for the others, so they would wait forever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._scheduler = os.getpid()
        self._worker: int | None = None
        self._is_waiting = False

    def get(self) -> Any:
        """Return the next workload. Raises EOFError, which ends the worker, if the scheduler has ended."""
        if self._worker != os.getpid():
            self._worker = os.getpid()
            os.register_at_fork(after_in_child=partial(_end_with, self._worker))
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


def _end_with(worker: int) -> None:
    """Let the process of a task end if its worker is killed. Nobody would take its result, and it is tried again."""
    if os.getppid() == worker:
        die_with_parent(signal.SIGKILL)


class _Unread(nullcontext):  # type: ignore[type-arg]
    """Replaces the counter of waiting tasks, which Airflow protects with a lock. This executor does not use it."""

    value = 0


class Executor(LocalExecutor):
    """Runs each task in a process that is forked from a worker."""

    _may_start_more = False

    def start(self) -> None:
        """Make the queues. No worker starts yet."""
        self.workers = {}
        self.activity_queue: WorkloadQueue = WorkloadQueue()  # type: ignore[assignment]
        self.result_queue: MessageQueue = MessageQueue()  # type: ignore[assignment]
        self._unread_messages = _Unread()  # type: ignore[assignment]
        self._tasks: dict[WorkloadKey, str] = {}
        self._missing: dict[WorkloadKey, float] = {}
        self._has_lost_worker = False

    def sync(self) -> None:
        """Wait for the end of a task, unless there may be more tasks to start."""
        if not self._may_start_more:
            self.result_queue.wait(WAIT_SECONDS if self._tasks else IDLE_WAIT_SECONDS)
        self._may_start_more = False
        super().sync()

    def change_state(
        self, key: WorkloadKey, state: WorkloadState, info: Any = None, remove_running: bool = True
    ) -> None:
        """Note that a task has ended, or that it runs."""
        if str(state) != "running":  # callbacks report that they run
            self._tasks.pop(key, None)
        super().change_state(key, state, info, remove_running)

    def try_adopt_task_instances(self, tis: Sequence[TaskInstance]) -> Sequence[TaskInstance]:
        """Return those tasks of a scheduler that has ended which no worker runs. Airflow starts them again."""
        running = set(running_tasks())
        return [task for task in tis if str(task.id) not in running]

    def _process_workloads(self, workload_list: Sequence[ExecutorWorkload]) -> None:
        self._tasks |= {workload.key: str(workload.display_name) for workload in workload_list}
        super()._process_workloads(workload_list)  # type: ignore[no-untyped-call]
        # The scheduler looks for so many tasks at a time.
        self._may_start_more = len(workload_list) >= conf.getint("scheduler", "max_tis_per_query")

    def _check_workers(self) -> None:
        """Start the workers that tasks need: each takes 30 MB. Fail the tasks of those that were killed."""
        for pid in [pid for pid, worker in self.workers.items() if not worker.is_alive()]:
            self.workers.pop(pid).close()
            self._has_lost_worker = True
        self._fail_lost_tasks()
        needed = min(len(self._tasks), self.parallelism) - len(self.workers)
        if needed > 0:
            self._spawn_workers_with_gc_freeze(needed)  # type: ignore[no-untyped-call]

    def _fail_lost_tasks(self) -> None:
        """After a worker was killed, fail the tasks that no worker has for LOST_SECONDS.

        A worker that just took or ended a task does not show it, and it takes a moment until the result is here.
        """
        if not self._has_lost_worker or not self.activity_queue.empty():
            return
        now, running = time.monotonic(), set(running_tasks())
        missing = {key: self._missing.get(key, now) for key, name in self._tasks.items() if name not in running}
        for key in [key for key, since in missing.items() if now - since >= LOST_SECONDS]:
            del missing[key]
            self.fail(key, "the process of its worker was killed")
        self._missing, self._has_lost_worker = missing, bool(missing)


def running_tasks() -> Iterator[str]:
    """Yield the IDs of the tasks that workers of this user run, even if their scheduler has ended."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == os.geteuid() and (title := title_of(process)).startswith(TITLE):
                yield title.removeprefix(TITLE)


def title_of(process: Path) -> str:
    """The title of the process with a folder in /proc; empty if it has ended."""
    try:
        return (process / "cmdline").read_bytes().rstrip(b"\0 ").decode(errors="replace")
    except OSError:
        return ""
