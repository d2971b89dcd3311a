"""Serves a shell in an image over SSH, until it is killed or its user ends it."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path

from pydantic import Field

from ims.builder import package_root
from ims.errors import ImsError, MissingError
from ims.files import is_plain, write_atomically
from ims.network.policy import Access
from ims.sandbox.bubblewrap import isolation
from ims.sandbox.overlay import mount_image
from ims.shell import host_mounts, jail, paths, sessions, sshd
from ims.shell.markers import read_marker
from ims.shell.network import session_network
from ims.steps.step import Step, StepInput

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
GRACE_SECONDS = 0.5
"""How long sessions live on after a marker was created, so that the one that created it can end by itself."""


class Input(StepInput):
    """`rootfs` is the squashfs of the image. Without it, the shell shows the image root of a failed build.

    The shell listens on `host` and `port`, and its prompt shows `name`. Sessions reach what `network` allows. The step
    ends when the user creates a marker.
    """

    rootfs: Path | None
    public_key: str
    jail: bool
    host: str
    port: int = Field(ge=1, le=65535)
    name: str
    network: Access = "open"


def run(step: Input) -> str:
    """Returns the outcome that the user chose with a marker, `complete` or `fail`.

    Writes host, port, fingerprint and the command that logs in to a file as soon as the shell accepts
    connections. Keeps the changes in `changes/upper`. If the step is started again in the same workspace, it
    continues with the same host key and the same changes. Raises ImsError.
    """
    workspace = step.workspace
    for folder in (workspace.shell, workspace.run):
        folder.mkdir(mode=0o700, exist_ok=True)
    workspace.shell_address.unlink(missing_ok=True)
    _mount_image_root(step)
    host_mounts.prepare()
    with session_network(step.network, workspace.image_root):
        return _serve(step)


def _serve(step: Input) -> str:
    workspace = step.workspace
    processes = _prepare_sessions(step)
    sessions.check_shell()
    fingerprint = sshd.make_key(workspace.host_key)
    sshd.configure(step.host, step.port, workspace.host_key, step.public_key)
    server = sshd.start(step.host, step.port)
    _announce(step, fingerprint)
    return _supervise(server.pid, processes, workspace.markers(jail=step.jail))


def _mount_image_root(step: Input) -> None:
    workspace = step.workspace
    if step.rootfs is not None:
        started = time.monotonic()
        mount_image(step.rootfs, workspace.changes, workspace.image_root)
        log.info("mounted %s in %.2f s", step.rootfs.name, time.monotonic() - started)
    elif workspace.image_root.is_dir():
        package_root.mount(workspace)
    else:
        raise MissingError("there is no image root to show", "See the log of build_image: it failed before it made one")


def _prepare_sessions(step: Input) -> sessions.SharedProcesses:
    """Configure what sessions see, and start the PID namespace that they share."""
    workspace = step.workspace
    root, outside = workspace.image_root, workspace.unjailed
    outside.mkdir(exist_ok=True)
    if os.path.lexists(workspace.kiwi_log) and is_plain(workspace.kiwi_log):
        jail.mount_log(workspace.kiwi_log, paths.SHARED_RUN if step.jail else outside)
    jail.prepare(root)
    view = jail.jailed(root) if step.jail else jail.unjailed(root, outside, workspace.session_scratch)
    sessions.configure([*isolation(step.name), *view])
    return sessions.SharedProcesses()


def _announce(step: Input, fingerprint: str) -> None:
    command = sshd.command(step.host, step.port, step.workspace.job_id)
    log.info("the shell is ready: %s", command)
    log.info("its host key is %s (ED25519)", fingerprint)
    address = {"host": step.host, "port": step.port, "fingerprint": fingerprint, "command": command}
    write_atomically(step.workspace.shell_address, json.dumps(address))


def _supervise(server: int, processes: sessions.SharedProcesses, markers: Path) -> str:
    """Wait for a marker in the folder `markers`; returns its outcome.

    Until then, act as the init process of the PID namespace: reap all processes, and react if sshd or the first
    process of the sessions ends. Raises ImsError if sshd ends.
    """
    while (outcome := read_marker(markers)) is None:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            time.sleep(POLL_SECONDS)
        elif pid == server:
            code = os.waitstatus_to_exitcode(status)
            raise ImsError(f"sshd ended with exit code {code}", "See its messages in the log above")
        elif pid == processes.pid:
            log.warning("all processes of the shell were killed; new sessions can be started")
            processes.restart()
    time.sleep(GRACE_SECONDS)
    return outcome


STEP = Step("serve_shell", Input, run, privileged=True)
