"""A shell in an image over SSH, until its user ends it. Everything that it starts and mounts ends with it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from ims.errors import ConfigurationError, ImsError, MissingError
from ims.images.overlay import mount_image
from ims.shell import jail, places, sessions, sshd, surroundings, tools
from ims.steps import package_root
from ims.steps.step import Step, StepInput

log = logging.getLogger(__name__)

MARKERS = {"failed": "fail", "complete": "complete"}
"""The files by which the user ends the shell, and the result that each stands for."""
POLL_SECONDS = 0.25
GRACE_SECONDS = 0.5
"""How long sessions live on after a marker was created, so that the one that created it can end by itself."""


class Input(StepInput):
    """`rootfs` is the image's squashfs; without it the folder `image-root` is used as it is (a failed build's).

    The shell listens on `host` and `port`; `name` is what its prompt shows.
    """

    rootfs: Path | None
    public_key: str
    jail: bool
    host: str
    port: int = Field(ge=1, le=65535)
    name: str


def run(step: Input) -> str:
    """Returns `complete` or `fail` when the user has created the marker that stands for it.

    Writes host, port, fingerprint and command to `shell.json` when ssh answers; changes are in `changes/upper`.
    If it is started again in the same workspace, it continues with the same host key and changes. Raises ImsError.
    """
    ready = step.workspace.shell_address
    ready.unlink(missing_ok=True)
    (step.workspace.shell).mkdir(mode=0o700, exist_ok=True)
    root = _image_root(step)
    surround()
    processes = _prepare(step, root)
    sessions.try_one()
    key = step.workspace.host_key
    fingerprint = sshd.make_key(key)
    sshd.configure(step.host, step.port, key, step.public_key)
    server = sshd.start(step.host, step.port)
    _announce(step, ready, fingerprint)
    return _watch(server.pid, processes, step.workspace.markers(jail=step.jail))


def surround() -> None:
    """Make the step's surroundings ready for sessions. Raises ConfigurationError."""
    if shutil.which("bwrap") is None:
        raise ConfigurationError("there is no bwrap", "Install bubblewrap")
    surroundings.cover()
    tools.provide()


def _image_root(step: Input) -> Path:
    root = step.workspace.image_root
    if step.rootfs is not None:
        started = time.monotonic()
        mount_image(step.rootfs, step.workspace.changes, root)
        log.info("mounted %s in %.2f s", step.rootfs.name, time.monotonic() - started)
        return root
    if not root.is_dir():
        raise MissingError("there is no image root to show", "The build ended before it made one")
    package_root.show(step.workspace, root)
    return root


def _prepare(step: Input, root: Path) -> sessions.Processes:
    """Say what the sessions see, and start the namespace they live in."""
    outside, kiwi_log = step.workspace.unjailed, step.workspace.kiwi_log
    outside.mkdir(exist_ok=True)
    if kiwi_log.is_file():
        jail.show_log(kiwi_log, places.SHARED_RUN if step.jail else outside)
    jail.prepare(root)
    view = jail.jailed(root) if step.jail else jail.unjailed(root, outside, step.workspace.session_scratch)
    sessions.arrange([*jail.isolation(step.name), *view])
    return sessions.Processes()


def _announce(step: Input, ready: Path, fingerprint: str) -> None:
    command = sshd.command(step.host, step.port, step.workspace.job_id)
    log.info("the shell is ready: %s", command)
    log.info("its host key is %s (ED25519)", fingerprint)
    partial = ready.with_suffix(".partial")
    data = {"host": step.host, "port": step.port, "fingerprint": fingerprint, "command": command}
    partial.write_text(json.dumps(data))
    partial.replace(ready)


def _watch(server: int, processes: sessions.Processes, markers: Path) -> str:
    """Wait for a marker; returns the result that it stands for.

    Meanwhile be the init process of the namespace: reap every process that ends, and react to the two that must not.
    Raises ImsError if sshd ends.
    """
    while (outcome := marked(markers)) is None:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            time.sleep(POLL_SECONDS)
        elif pid == server:
            raise ImsError(f"sshd ended with {os.waitstatus_to_exitcode(status)}", "Its messages are in the log above")
        elif pid == processes.pid:
            log.warning("all processes of the shell were ended; it can be used again")
            processes.restart()
    time.sleep(GRACE_SECONDS)
    return outcome


def marked(folder: Path) -> str | None:
    """Returns the result that a marker in the folder stands for, or None if there is no marker.

    A link counts as a marker and is not followed; the whiteout of an overlay does not count.
    """
    for name, outcome in MARKERS.items():
        with suppress(FileNotFoundError):
            if not stat.S_ISCHR((folder / name).lstat().st_mode):
                return outcome
    return None


STEP = Step("serve_shell", Input, run, privileged=True)
