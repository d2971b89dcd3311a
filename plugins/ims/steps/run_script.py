"""Customizes an image without a person: a script or an Ansible playbook changes it in the jail of the shell."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pydantic import Field

from ims.builder import customization
from ims.errors import PermanentError
from ims.network.policy import Access
from ims.programs import run_logged
from ims.recipes import archive
from ims.removal import remove
from ims.replays.customization import Customization, Parameters
from ims.sandbox import disk
from ims.sandbox.call import call, public_environment
from ims.sandbox.network import SandboxNetwork, enter
from ims.sandbox.overlay import Layers, mount_lower
from ims.settings import settings
from ims.shell import ansible, host_mounts, jail, sessions, tools
from ims.shell.network import session_network
from ims.steps.fetch_image import key_of
from ims.steps.step import Step, StepInput
from ims.steps.views import limits, view_of, view_of_sessions

log = logging.getLogger(__name__)

UNPACK_SECONDS = 900
"""How long it may take to unpack a playbook."""
MAX_REASON = 300
"""How many characters of a program's output an error may quote."""


class Input(StepInput):
    """`rootfs` is the squashfs of the image. Without a `script`, the fetched playbook runs.

    The script or playbook is killed after `seconds`. It reaches what `network` allows. The other fields are parameters
    of the job that become part of the build inputs.
    """

    rootfs: Path
    script: str | None
    seconds: int = Field(ge=1)
    network: Access = "open"
    build_env_size: int | None = None
    pack_in_full: bool = False
    kernel_file_name: str | None = None
    initrd_file_name: str = "initrd"
    kernel_parameters_file_name: str = "kernel-parameters"


def run(step: Input) -> None:
    """Leaves the changes in `changes/upper` and notes the build inputs. Each try starts from the original image.

    Raises PermanentError if the script or the playbook fails, takes too long, or fills the disk.
    """
    workspace = step.workspace
    customization.note(workspace, _build_inputs(step))
    if step.script is None:
        call(unpack_playbook, step, view_of(workspace), seconds=UNPACK_SECONDS)
        workspace.refuse_links()
    for left in (workspace.changes, workspace.session_scratch, workspace.unjailed):
        remove(left)
    layers = Layers(step.rootfs, workspace.changes, workspace.image_root)
    original = mount_lower(layers.rootfs, layers.changes, unpack=layers.unpack)
    host_mounts.prepare()
    with session_network(step.network, original) as network:
        view = view_of_sessions(workspace, layers, network, "script", jail=True)
        with sessions.open_sessions(view) as box:
            if step.script is None:
                _run_playbook(step, network)
            else:
                script = tools.add_script("script", step.script)
                _run("the script", sessions.COMMAND, {"SSH_ORIGINAL_COMMAND": str(script)}, step, kill=box.kill)


def _build_inputs(step: Input) -> Customization:
    fields = step.model_dump(include=set(Parameters.model_fields))
    parameters = Parameters(**fields, lease=step.seconds)
    return customization.collect(key_of(step.rootfs), parameters, step.workspace.playbook_archive)


def unpack_playbook(step: Input) -> None:
    """Unpack the archive of the playbook to `playbook/`; in the sandbox. Raises InputError if it is not one."""
    workspace, own = step.workspace, settings()
    archive.unpack(
        workspace.playbook_archive,
        workspace.playbook,
        max_bytes=own.recipe_max_mib * 1024**2,
        max_files=own.recipe_max_files,
        entry=ansible.PLAYBOOK,
    )


def _run_playbook(step: Input, network: SandboxNetwork) -> None:
    workspace = step.workspace
    # Ansible reaches the SSH server of the jail by loopback, so both are in the same network.
    enter(network.namespace)
    with ansible.serving(workspace.host_key, workspace.session_scratch):
        command = ansible.command(workspace.playbook, workspace.session_scratch, network, limits(workspace))
        environment = public_environment() | network.environment | ansible.ENVIRONMENT
        output = _run("the playbook", command, environment, step, descriptors=[network.namespace])
    if not ansible.ran_on_image(output):
        raise PermanentError(
            f"no play of {ansible.PLAYBOOK} matched the image, so nothing was changed",
            f"The image is the host {ansible.HOST}, in no group: write `hosts: all`, or add groups with group_by",
        )


def _run(
    name: str,
    command: list[str],
    environment: dict[str, str],
    step: Input,
    *,
    kill: Callable[[], None] | None = None,
    descriptors: Sequence[int] = (),
) -> Sequence[str]:
    """Returns the last lines of the output."""
    environment = {"PATH": jail.PATH, "LANG": "C.UTF-8", **environment}
    limit = partial(disk.limit, [step.workspace.root], limits(step.workspace).space)
    code, last = run_logged(command, environment, seconds=step.seconds, descriptors=descriptors, kill=kill, limit=limit)
    if code < 0:
        raise PermanentError(f"{name} was stopped after {step.seconds} s", "Set lease to give it more time")
    if code != 0:
        lines = [line for line in last if line.startswith(("fatal:", "ERROR"))] or list(last) or ["it printed nothing"]
        reason = f"{name} ended with exit code {code}: {lines[-1][:MAX_REASON]}"
        raise PermanentError(reason, "See the log. No image was made")
    return last


STEP = Step("run_script", Input, run, privileged=True)
