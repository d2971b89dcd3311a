"""Shells as services of a running stack, without a workflow around them."""

from __future__ import annotations

import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from platform import machine

import pytest

from ims import supervisord
from ims.errors import ImsError, MissingError
from ims.runtime.base import ShellRequest
from ims.runtime.local.runtime import LocalRuntime
from ims.runtime.local.services import service_name
from ims.runtime.local.shells import START_SECONDS
from ims.workspace import Workspace
from tests.flows.waiting import wait_for
from tests.service import PUBLIC_KEY, Service
from tests.shell.small_image import pack, write_root


@pytest.fixture
def workspace(service: Service) -> Iterator[Path]:
    """The workspace of a job whose shell is closed at the end of the test."""
    job = str(uuid.uuid4())
    yield LocalRuntime().open_workspace(job, 1)
    LocalRuntime().close_shell(job)
    LocalRuntime().close_workspace(job)


def request(workspace: Path, rootfs: Path | None, *, jail: bool = True) -> ShellRequest:
    """A request for a shell."""
    return ShellRequest(
        workspace=workspace, rootfs=rootfs, public_key=PUBLIC_KEY, jail=jail, name="test", arch=machine()
    )


def markers(workspace: Path, *, jail: bool) -> Path:
    """The folder in which the user of a shell creates markers, as this machine sees it."""
    folder = Workspace(workspace).markers(jail=jail)
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("jail", "marker", "outcome"),
    [(True, "complete", "complete"), (True, "failed", "fail"), (False, "complete", "complete")],
)
def test_marker_ends_the_shell(
    workspace: Path, tmp_path: Path, service: Service, jail: bool, marker: str, outcome: str
) -> None:
    """The step returns the outcome, and supervisord does not restart it. A link counts as a marker."""
    rootfs = pack(write_root(tmp_path / "root"), tmp_path / "rootfs")
    LocalRuntime().open_shell(request(workspace, rootfs, jail=jail))
    assert LocalRuntime().shell_outcome(workspace.name) is None
    (markers(workspace, jail=jail) / marker).symlink_to("/does/not/exist")
    wait_for(lambda: LocalRuntime().shell_outcome(workspace.name) == outcome, 5, pause=0.1)
    name = service_name("serve_shell", workspace.name)
    wait_for(lambda: supervisord.states(service.settings)[name] == "EXITED", 5)


def test_marker_of_the_image_does_not_count(workspace: Path, tmp_path: Path) -> None:
    """Only the user ends the shell: neither a file of the image nor its removal does."""
    root = write_root(tmp_path / "root")
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp" / "complete").touch()
    LocalRuntime().open_shell(request(workspace, pack(root, tmp_path / "rootfs")))
    os.mknod(markers(workspace, jail=True) / "failed", stat.S_IFCHR, os.makedev(0, 0))
    time.sleep(2)
    assert LocalRuntime().shell_outcome(workspace.name) is None


def test_open_shell_is_opened_again(workspace: Path, tmp_path: Path) -> None:
    """If a task is retried because its worker died, the shell keeps its address and host key."""
    rootfs = pack(write_root(tmp_path / "root"), tmp_path / "rootfs")
    first = LocalRuntime().open_shell(request(workspace, rootfs))
    assert LocalRuntime().open_shell(request(workspace, rootfs)) == first
    assert LocalRuntime().shell_outcome(workspace.name) is None


def test_failure_of_the_step_is_reported_at_once(workspace: Path, tmp_path: Path) -> None:
    """A shell that cannot open gives the step's own reason."""
    (tmp_path / "rootfs").write_bytes(b"no squashfs")
    started = time.monotonic()
    with pytest.raises(ImsError, match="rootfs is not a squashfs"):
        LocalRuntime().open_shell(request(workspace, tmp_path / "rootfs"))
    assert time.monotonic() - started < START_SECONDS / 2
    assert LocalRuntime().shell_outcome(workspace.name) is None
    with pytest.raises(MissingError):
        LocalRuntime().open_shell(request(workspace, None))
