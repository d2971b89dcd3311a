"""Serves a shell in an image over SSH, until it is killed or its user ends it."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from ims.builder import package_root
from ims.errors import ImsError, MissingError
from ims.files import is_plain, write_atomically
from ims.network.policy import Access
from ims.sandbox import disk
from ims.sandbox.network import SandboxNetwork
from ims.sandbox.overlay import Layers, mount_lower
from ims.sandbox.shared import SharedBox
from ims.shell import boot, host_mounts, sessions, sshd
from ims.shell.markers import COMPLETE, REFUSAL, read_marker
from ims.shell.network import session_network
from ims.steps.step import Step, StepInput
from ims.steps.views import view_of_sessions

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
DISK_FULL = "disk-full"
GRACE_SECONDS = 0.5
"""How long sessions live on after a marker was created, so that the one that created it can end by itself."""


class Input(StepInput):
    """`rootfs` is the squashfs of the image. Without it, the shell shows the image root of a failed build.

    The shell listens on `host` and `port`, and its prompt shows `name`. Sessions reach what `network` allows. The step
    ends when the user creates a marker, or the runtime does for a user of the API. The marker `complete` is removed
    again while a file of `boot` is missing in the image's /boot.
    """

    rootfs: Path | None
    public_key: str
    jail: bool
    host: str
    port: int = Field(ge=1, le=65535)
    name: str
    network: Access = "open"
    boot: tuple[str, ...] = ()


def run(step: Input) -> str:
    """Returns the outcome that the user chose with a marker, `complete` or `fail`; DISK_FULL if the job fills the disk.

    Writes host, port, fingerprint and the command that logs in to a file as soon as the shell accepts
    connections. Keeps the changes in `changes/upper`. If the step is started again in the same workspace, it
    continues with the same host key and the same changes. Raises ImsError.
    """
    workspace = step.workspace
    for folder in (workspace.shell, workspace.run, workspace.shell_requests):
        folder.mkdir(mode=0o700, exist_ok=True)
    workspace.shell_address.unlink(missing_ok=True)
    layers = _find_layers(step)
    # Its package sources decide what sessions reach, not those that sessions add.
    original = (
        workspace.image_root if layers is None else mount_lower(layers.rootfs, layers.changes, unpack=layers.unpack)
    )
    host_mounts.prepare()
    with session_network(step.network, original) as network:
        return _serve(step, layers, network)


def _find_layers(step: Input) -> Layers | None:
    """The image to show; None if it is a plain folder. Raises MissingError if there is none."""
    workspace = step.workspace
    if step.rootfs is not None:
        return Layers(step.rootfs, workspace.changes, workspace.image_root)
    if workspace.image_root.is_dir():
        return package_root.layers(workspace)
    raise MissingError("there is no image root to show", "See the log of build_image: it failed before it made one")


def _serve(step: Input, layers: Layers | None, network: SandboxNetwork) -> str:
    workspace = step.workspace
    workspace.unjailed.mkdir(exist_ok=True)
    if os.path.lexists(workspace.kiwi_log) and is_plain(workspace.kiwi_log):
        sessions.show_log(workspace.kiwi_log)
    view = view_of_sessions(workspace, layers, network, step.name, jail=step.jail)
    with sessions.open_sessions(view) as box:
        sessions.check_shell()
        fingerprint = sshd.make_key(workspace.host_key)
        sshd.configure(step.host, step.port, workspace.host_key, step.public_key)
        with sshd.serving(step.host, step.port) as server:
            _announce(step, fingerprint)
            try:
                with disk.limit([workspace.root], view.limits.space, box.kill):
                    return _supervise(step, server.pid, box)
            except disk.DiskFullError as error:
                # A result, since a shell that fails is started again.
                log.error("%s", error)
                return DISK_FULL


def _announce(step: Input, fingerprint: str) -> None:
    command = sshd.command(step.host, step.port, step.workspace.job_id)
    log.info("the shell is ready: %s", command)
    log.info("its host key is %s (ED25519)", fingerprint)
    address = {"host": step.host, "port": step.port, "fingerprint": fingerprint, "command": command}
    write_atomically(step.workspace.shell_address, json.dumps(address))


def _warn(absent: list[str]) -> None:
    boot.tell(absent)
    if absent:
        log.warning("%s", boot.warning(absent))


def _supervise(step: Input, server: int, box: SharedBox) -> str:
    """Wait for a marker with which the shell can end; returns its outcome.

    Until then, act as the init process of the PID namespace and reap all processes. Raises ImsError if sshd or the
    sandbox of the sessions ends.
    """
    if step.boot:  # after the shell was announced: this takes as long as a login
        _warn(boot.missing(step.boot, jail=step.jail))
    while (outcome := _read_markers(step)) is None or _reopens(step, outcome):
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            time.sleep(POLL_SECONDS)
        elif pid == server:
            code = os.waitstatus_to_exitcode(status)
            raise ImsError(f"sshd ended with exit code {code}", "See its messages in the log above")
        elif pid == box.pid:
            raise ImsError("the sandbox of the shell ended", "See the log of the kernel (dmesg)")
    time.sleep(GRACE_SECONDS)
    return outcome


def _read_markers(step: Input) -> str | None:
    """The outcome that the user requested in the shell or through the API, or None."""
    return read_marker(step.workspace.markers(jail=step.jail)) or read_marker(step.workspace.shell_requests)


def _reopens(step: Input, outcome: str) -> bool:
    """Whether the shell stays open although its user finished it: a file in /boot is missing, and the work is not lost.

    Returns False if the marker cannot be removed.
    """
    if outcome != "complete" or not step.boot or not (absent := boot.missing(step.boot, jail=step.jail)):
        return False
    boot.missing(step.boot, jail=step.jail, reopen=True)
    (step.workspace.shell_requests / COMPLETE).unlink(missing_ok=True)
    _warn(absent)
    with suppress(OSError):  # a full disk must not end the sessions
        write_atomically(step.workspace.shell_requests / REFUSAL, boot.warning(absent))
    return read_marker(step.workspace.markers(jail=step.jail)) != outcome


STEP = Step("serve_shell", Input, run, privileged=True)
