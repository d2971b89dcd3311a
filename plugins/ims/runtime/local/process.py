"""Steps as processes of this machine, each in a mount and a PID namespace of its own.

Whatever a step mounts or starts lives in its namespaces, and the kernel ends those with the step: when it finishes,
when it is killed, and when the task that started it dies. So nothing can be left behind but files, and those are in
the job's workspace.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ims.errors import ImsError
from ims.settings import Settings
from ims.steps.logs import parse_line
from ims.steps.step import Step
from ims.workspace import Workspace

# The kernel kills the step when its parent dies, and everything in a PID namespace with its first process.
NAMESPACES = (
    *("setpriv", "--pdeathsig=KILL", "--"),
    *("unshare", "--fork", "--pid", "--kill-child=KILL", "--mount", "--mount-proc", "--propagation", "private"),
    "--",
)
_INHERITED = ("PATH", "HOME", "LANG", "TZ", "http_proxy", "https_proxy", "no_proxy", "AWS_CA_BUNDLE")


class StepFailedError(ImsError):
    """A step ended with an error."""

    def __init__(self, reason: str, hint: str, exit_code: int) -> None:
        super().__init__(reason, hint)
        self.exit_code = exit_code


class StepProcess:
    """One step at a time as a child process: `run` waits for it, `kill` ends it from another thread or a signal."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, step: Step[Any], data: dict[str, Any], label: str, on_line: Callable[[str], None]) -> Any:
        """Run a step and return its result.

        `data` is its input, `label` tells its runs in one workspace apart, `on_line` gets each line it prints.
        Raises StepFailedError: the step's own reason, or how it ended.
        """
        workspace = Workspace(Path(data["workspace"]))
        result, record = workspace.result(label), workspace.pid_file(label)
        end_recorded(record)
        result.unlink(missing_ok=True)
        # -P: the workspace, where others' scripts write, is no place for modules.
        command = [*NAMESPACES, sys.executable, "-P", "-m", "ims.runtime.local.entrypoint", step.name, json.dumps(data)]
        self._process = subprocess.Popen(
            [*command, "--result", str(result)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=step_environment(step),
            cwd=workspace.root,
            start_new_session=True,
        )
        record.write_text(str(self._process.pid))
        assert self._process.stdout is not None
        last = ""
        for line in self._process.stdout:
            on_line(last := line.decode(errors="replace").rstrip())
        return _outcome(step.name, self._process.wait(), result, parse_line(last)[1])

    def kill(self) -> None:
        """End the running step, and all it started, now."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            threading.Thread(target=self._process.wait, daemon=True).start()


def step_environment(step: Step[Any]) -> dict[str, str]:
    """What a step finds in its environment: nothing of Airflow's, S3 credentials only where it declares them."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    own = {f"IMS_{name.upper()}" for name in Settings.model_fields} - {"IMS_DATABASE_URL"}
    environment |= {name: os.environ[name] for name in own if name in os.environ}
    environment["PYTHONUNBUFFERED"] = "1"
    if step.s3:
        environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return environment


def _outcome(name: str, code: int, result: Path, last: str) -> Any:
    try:
        outcome = json.loads(result.read_text())
    except (OSError, ValueError):
        outcome = {}
    if code == 0 and "result" in outcome:
        return outcome["result"]
    if "error" in outcome:
        raise StepFailedError(outcome["error"], outcome["hint"], code)
    if last.startswith(f"{name} failed: "):  # there was no space to write it
        raise StepFailedError(last.partition(": ")[2], "", code)
    how = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    raise StepFailedError(f"{name} {how} without giving a reason", "See its log", code)


def end_recorded(record: Path) -> None:
    """Kill the process that `record` names if it is still the step that wrote it."""
    try:
        pid = int(record.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    if b"ims.runtime.local.entrypoint" in command and os.fsencode(record.parent) in command:
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
