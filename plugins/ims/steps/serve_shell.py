"""Seed step 5: a shell in an image over SSH, until it is killed. All it starts and mounts ends with it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from pathlib import Path

from pydantic import Field

from ims.errors import ConfigurationError, ImsError, MissingError
from ims.images.overlay import mount_image
from ims.shell import jail, places, sessions, sshd, surroundings, tools
from ims.steps import package_root
from ims.steps.step import Step, StepInput

log = logging.getLogger(__name__)

MARKERS = {"failed": "fail", "complete": "complete"}
"""What the user may make, and what it means."""


class Input(StepInput):
    """`rootfs` is the image's squashfs; without it the folder `image-root` is used as it is (a failed build's).

    The shell listens on `host` and `port`; `name` is what its prompt shows. With `until_marked` the step ends when its
    user has made one of the markers.
    """

    rootfs: Path | None
    public_key: str
    jail: bool
    host: str
    port: int = Field(ge=1, le=65535)
    name: str
    until_marked: bool = False


def run(step: Input) -> str:
    """Returns the marker's word, `complete` or `fail`.

    Leaves host, port, fingerprint and command in `shell.json` when ssh answers, changes in `changes/upper`.

    Started again in the same workspace, it goes on with the same host key and changes. Raises ImsError.
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
    folder = (root / "tmp" if step.jail else step.workspace.unjailed) if step.until_marked else None
    return _watch(server.pid, processes, folder)


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


def _watch(server: int, processes: sessions.Processes, markers: Path | None) -> str:
    """Be the first process of the namespace: reap whatever ends, and see to the two that must not.

    Returns the word of a marker in `markers`, if that is given.
    """
    while True:
        if markers is not None and (word := marked(markers)) is not None:
            return word
        pid, status = os.waitpid(-1, os.WNOHANG if markers is not None else 0)
        if pid == 0:
            time.sleep(1)
        elif pid == server:
            raise ImsError(f"sshd ended with {os.waitstatus_to_exitcode(status)}", "Its messages are in the log above")
        elif pid == processes.pid:
            log.warning("all processes of the shell were ended; it can be used again")
            processes.restart()


def marked(folder: Path) -> str | None:
    """What the user says. A link counts as a file: it is never followed."""
    for name, word in MARKERS.items():
        if os.path.lexists(folder / name):
            return word
    return None


STEP = Step("serve_shell", Input, run, privileged=True)
