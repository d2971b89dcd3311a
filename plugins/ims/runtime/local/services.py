"""Steps that run as services of the stack's supervisord.

A service outlives the task that starts it. It runs until it ends by itself or `stop` is called; supervisord restarts it
if it dies, and starts it again together with the stack.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ims import supervisord
from ims.files import write_atomically
from ims.runtime.local.process import input_descriptor, step_command, step_environment
from ims.settings import settings
from ims.steps.step import Step
from ims.workspace import Workspace

_PROGRAM = """\
[program:{name}]
command={python} -m ims.runtime.local.services {specification}
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=1
autorestart=unexpected
exitcodes=0
startsecs=1
stopsignal=KILL
stopasgroup=true
killasgroup=true
"""


def start(step: Step[Any], data: dict[str, Any]) -> None:
    """Run a step in the workspace that its input names. Does nothing if the step runs already."""
    workspace = Workspace(Path(data["workspace"]))
    specification = workspace.service(step.name)
    specification.write_text(
        json.dumps(
            {
                "command": step_command(step, workspace.result(step.name)),
                "input": data,
                "environment": step_environment(),
                "folder": str(workspace.root),
            }
        )
    )
    name = service_name(step.name, workspace.job_id)
    log = log_file(step.name, workspace.job_id)
    program = _PROGRAM.format(name=name, python=sys.executable, specification=specification, log=log)
    write_atomically(_configuration(name), program)
    supervisord.update(settings(), name)


def stop(step_name: str, job_id: str) -> None:
    """End the step of a job and all its processes, if it runs, and remove the service."""
    name = service_name(step_name, job_id)
    _configuration(name).unlink(missing_ok=True)
    supervisord.update(settings(), name)
    for log in log_file(step_name, job_id).parent.glob(f"{name}.log*"):
        log.unlink()


def started_jobs(step_name: str) -> list[str]:
    """The ids of the jobs for which the step was started and not stopped."""
    prefix = service_name(step_name, "")
    found = supervisord.services_folder(settings()).glob(f"{prefix}*.conf")
    return sorted(path.stem.removeprefix(prefix) for path in found)


def outcome(step_name: str, workspace: Workspace) -> dict[str, Any] | None:
    """How the step ended: {"result"} or {"error", "hint"}. None if it has not ended yet."""
    try:
        found: dict[str, Any] = json.loads(workspace.result(step_name).read_text())
    except FileNotFoundError:
        return None
    return found


def log_file(step_name: str, job_id: str) -> Path:
    """The file of the step's output.

    It is not in the workspace: if the folder of a log is missing, supervisord rejects its whole configuration.
    """
    return supervisord.services_folder(settings()) / f"{service_name(step_name, job_id)}.log"


def service_name(step_name: str, job_id: str) -> str:
    """The name of the service in supervisord."""
    return f"{step_name}-{job_id}"


def _configuration(name: str) -> Path:
    return supervisord.services_folder(settings()) / f"{name}.conf"


def _become(specification: Path) -> None:
    """Replace this process with the step, without anything of supervisord's environment."""
    program = json.loads(specification.read_text())
    os.chdir(program["folder"])
    os.dup2(input_descriptor(program["input"]), 0)
    os.execvpe(program["command"][0], program["command"], program["environment"])  # noqa: S606


if __name__ == "__main__":
    _become(Path(sys.argv[1]))
