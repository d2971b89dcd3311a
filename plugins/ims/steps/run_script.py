"""Customizing without a person: a script, or an Ansible playbook, changes the image in the jail of the shell."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from pydantic import Field

from ims.errors import InputError
from ims.images.overlay import mount_image
from ims.shell import ansible, jail, sessions, tools
from ims.steps.programs import run_logged
from ims.steps.serve_shell import surround
from ims.steps.step import Step, StepInput

log = logging.getLogger(__name__)


SAID = 300
"""Characters of a program's last words that a reason has room for."""


class Input(StepInput):
    """`rootfs` is the image's squashfs. Without a `script` the fetched playbook is run. `seconds`: its time."""

    rootfs: Path
    script: str | None
    seconds: int = Field(ge=1)


def run(step: Input) -> None:
    """Leaves what was changed in `changes/upper`; tried again, it starts from the original.

    Raises InputError: the script or the playbook failed, or its time was over.
    """
    shutil.rmtree(step.workspace.changes, ignore_errors=True)
    root = step.workspace.image_root
    mount_image(step.rootfs, step.workspace.changes, root)
    surround()
    jail.prepare(root)
    sessions.arrange([*jail.isolation("script"), *jail.jailed(root)])
    if step.script is not None:
        _run("the script", sessions.ALONE, {"SSH_ORIGINAL_COMMAND": str(tools.add_script("script", step.script))}, step)
    else:
        _run_playbook(step, root)


def _run_playbook(step: Input, root: Path) -> None:
    scratch = step.workspace.session_scratch
    command = ansible.command(root, step.workspace.unjailed, scratch, step.workspace.playbook)
    ansible.serve(step.workspace.shell, scratch / "home")
    _run("the playbook", command, ansible.ENVIRONMENT, step)


def _run(what: str, command: list[str], environment: dict[str, str], step: Input) -> None:
    with sessions.opened(command) as (opened, descriptors):
        environment = {"PATH": jail.PATH, "LANG": "C.UTF-8", **environment}
        code, last = run_logged(opened, environment, seconds=step.seconds, descriptors=descriptors)
    if code < 0:
        raise InputError(f"{what} was ended after {step.seconds} s", "Set lease to give it more time")
    if code != 0:
        lines = [line for line in last if line.startswith(("fatal:", "ERROR"))] or list(last) or ["it printed nothing"]
        raise InputError(f"{what} ended with exit code {code}: {lines[-1][:SAID]}", "See the log; no image was made")


STEP = Step("run_script", Input, run, privileged=True)
