"""Steps as processes of this machine, each in its own mount and PID namespace.

Everything that a step mounts or starts lives in its namespaces. The kernel destroys these together with the step: when
it ends, when it is killed, and when the task that started it dies. Only files can be left behind, and those are in the
workspace of the job.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ims.errors import StepFailedError
from ims.logs import parse_line
from ims.programs import LINE_LENGTH
from ims.runtime.local import fork_server
from ims.sandbox import namespaces
from ims.sandbox.forking import Forked, sealed
from ims.settings import Settings
from ims.steps.step import Step
from ims.workspace import Workspace

log = logging.getLogger(__name__)

ENTRYPOINT = "ims.runtime.local.entrypoint"
_INHERITED = ("PATH", "HOME", "LANG", "TZ", "http_proxy", "https_proxy", "no_proxy", "AWS_CA_BUNDLE")

_NOT_OF_STEPS = {"IMS_DATABASE_URL", "IMS_MAINTENANCE_SCHEDULE", "IMS_NIGHTLY_SCHEDULE"}
"""A password, and settings that take a while to check."""


class StepProcess:
    """Runs one step at a time: `run` waits until it ends, `kill` ends it from a signal handler or another thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._is_killed = False

    def run(
        self,
        step: Step[Any],
        data: dict[str, Any],
        label: str,
        on_line: Callable[[str], None],
        credentials: Mapping[str, str] | None = None,
    ) -> Any:
        """Run a step on its input `data` and return its result; `on_line` receives each line that it prints.

        `credentials` are variables AWS_* for a step that uses S3.

        `label` distinguishes the runs in one workspace; a run that an earlier try left under this label is ended first.
        Raises StepFailedError with the step's own reason, or with how it ended.
        """
        workspace = Workspace(Path(data["workspace"]))
        result, pid_file = workspace.result(label), workspace.pid_file(label)
        end_recorded(pid_file)
        result.unlink(missing_ok=True)
        self._is_killed = False
        self._process = process = _start(step, data, result, step_environment(credentials))
        pid_file.write_text(str(process.pid))
        assert process.stdout is not None
        last = ""
        while line := process.stdout.readline(LINE_LENGTH):
            on_line(last := line.decode(errors="replace").rstrip())
        code = process.wait()
        # Whoever else ends a step removes its PID file first.
        if code == -signal.SIGKILL and (self._is_killed or _recorded_pid(pid_file) != process.pid):
            raise StepFailedError(f"{step.name} was stopped", "Its job was cancelled, or its task was ended", code)
        return _outcome(step.name, code, result, parse_line(last)[1])

    def kill(self) -> None:
        """End the running step and all its processes, if there are any."""
        if self._process is not None and self._process.poll() is None:
            self._is_killed = True
            self._process.kill()
            threading.Thread(target=self._process.wait, daemon=True).start()


def step_command(step: Step[Any], result: Path) -> list[str]:
    """Returns the command line that runs a step in its own namespaces and writes its result to a file.

    The step reads its input from standard input: see `input_descriptor`.
    """
    # -P: scripts of a recipe write to the workspace, so Python must not search it for modules.
    return [*namespaces.STEP, sys.executable, "-P", "-m", ENTRYPOINT, *_arguments(step, result)]


def _arguments(step: Step[Any], result: Path) -> list[str]:
    return [step.name, "--result", str(result)]


def input_descriptor(data: dict[str, Any]) -> int:
    """Returns a descriptor from which a step reads its input."""
    return sealed(json.dumps(data))


def step_environment(credentials: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the environment of a step: nothing of Airflow's, and of S3 only the `credentials` of the step."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    own = {f"IMS_{name.upper()}" for name in Settings.model_fields} - _NOT_OF_STEPS
    environment |= {name: os.environ[name] for name in own if name in os.environ}
    environment["PYTHONUNBUFFERED"] = "1"
    return {**environment, **(credentials or {})}


def end_recorded(pid_file: Path) -> None:
    """Kill the process that a PID file names, if it is still the step that the file was written for."""
    pid = _recorded_pid(pid_file)
    if pid is None or not _is_step(pid, pid_file):
        return
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            pid_file.unlink(missing_ok=True)
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _start(
    step: Step[Any], data: dict[str, Any], result: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes] | Forked:
    """Start a step as a fork of the server or, if there is none, as a new program."""
    descriptor = input_descriptor(data)
    try:
        return fork_server.fork(ENTRYPOINT, _arguments(step, result), descriptor, environment, data["workspace"])
    except OSError as error:
        log.debug("the step is started as a new program: %s", error)
        return subprocess.Popen(
            step_command(step, result),
            stdin=descriptor,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=data["workspace"],
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def _outcome(name: str, code: int, result: Path, last_line: str) -> Any:
    """Returns the result of a step that has ended. Raises StepFailedError."""
    try:
        outcome = json.loads(result.read_text())
    except (OSError, ValueError):
        outcome = {}
    if code == 0 and "result" in outcome:
        return outcome["result"]
    if "error" in outcome:
        raise StepFailedError(outcome["error"], outcome["hint"], code)
    if last_line.startswith(f"{name} failed: "):  # the disk was too full to write the result
        raise StepFailedError(last_line.partition(": ")[2], "", code)
    how = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    raise StepFailedError(f"{name} {how} without giving a reason", "See its log", code)


def _recorded_pid(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text())
    except (OSError, ValueError):
        return None


def _is_step(pid: int, pid_file: Path) -> bool:
    """Whether a process is a step of the workspace; the kernel reuses process IDs."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return ENTRYPOINT.encode() in command and os.fsencode(pid_file.parent) in command
