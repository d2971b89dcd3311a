"""Steps that run until they are stopped, as programs of the stack's supervisord.

They outlive the task that starts them, are started again when they die, and come back with the stack.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ims.runtime.local import NAMESPACES, step_environment
from ims.settings import settings
from ims.stack import supervision
from ims.steps.step import Step


def start(step: Step[Any], data: dict[str, Any]) -> None:
    """Run a step in the workspace that its input names until `stop`. Running already is no error."""
    workspace = Path(data["workspace"])
    specification = workspace / "run" / f"{step.name}.service.json"
    result = workspace / "run" / f"{step.name}.json"
    command = [*NAMESPACES, sys.executable, "-m", "ims.runtime.inside", step.name, json.dumps(data)]
    specification.write_text(
        json.dumps(
            {
                "command": [*command, "--result", str(result)],
                "environment": step_environment(step),
                "folder": str(workspace),
            }
        )
    )
    name = service_name(step.name, workspace.name)
    partial = supervision.services_folder(settings()) / f"{name}.partial"
    partial.write_text(
        f"[program:{name}]\ncommand={sys.executable} -m ims.runtime.services {specification}\n"
        # Not in the workspace: supervisord reads no configuration at all where a log's folder is missing.
        f"redirect_stderr=true\nstdout_logfile={log_file(step.name, workspace.name)}\nstdout_logfile_maxbytes=20MB\n"
        "stdout_logfile_backups=1\nstopsignal=KILL\nstopasgroup=true\nkillasgroup=true\nstartsecs=1\n"
    )
    partial.rename(partial.with_suffix(".conf"))
    supervision.update(settings(), name)


def stop(step_name: str, job_id: str) -> None:
    """End a step that `start` started, and all that it started. Not running is no error."""
    name = service_name(step_name, job_id)
    (supervision.services_folder(settings()) / f"{name}.conf").unlink(missing_ok=True)
    supervision.update(settings(), name)
    for log in log_file(step_name, job_id).parent.glob(f"{name}.log*"):
        log.unlink()


def started(step_name: str) -> list[str]:
    """The jobs whose step was started and not stopped."""
    prefix = service_name(step_name, "")
    found = supervision.services_folder(settings()).glob(f"{prefix}*.conf")
    return sorted(path.stem.removeprefix(prefix) for path in found)


def log_file(step_name: str, job_id: str) -> Path:
    """Where the output of the step of a job goes while it runs."""
    return supervision.services_folder(settings()) / f"{service_name(step_name, job_id)}.log"


def service_name(step_name: str, job_id: str) -> str:
    """What supervisord calls the step of a job."""
    return f"{step_name}-{job_id}"


def _become(specification: Path) -> None:
    """Turn this process into the step, with nothing of supervisord's environment."""
    wanted = json.loads(specification.read_text())
    os.chdir(wanted["folder"])
    os.execvpe(wanted["command"][0], wanted["command"], wanted["environment"])  # noqa: S606


if __name__ == "__main__":
    _become(Path(sys.argv[1]))
