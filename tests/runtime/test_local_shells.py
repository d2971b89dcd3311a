"""Shells as services of a real supervisord."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from platform import machine

import pytest

from ims import supervisord
from ims.errors import ImsError, MissingError, UnavailableError
from ims.jobs import shell_port
from ims.runtime.base import ShellAddress, ShellRequest
from ims.runtime.local import shells
from ims.runtime.local.runtime import LocalRuntime
from ims.runtime.local.services import service_name
from ims.runtime.local.shells import START_SECONDS
from ims.settings import Settings, settings
from ims.shell.markers import REFUSAL
from ims.stack import supervision
from ims.workspace import Workspace
from tests.flows.waiting import wait_for
from tests.ports import free_ports
from tests.service import PUBLIC_KEY
from tests.shell.small_image import pack, write_root

pytestmark = pytest.mark.system


@pytest.fixture
def own(tmp_path: Path, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """An installation in which only supervisord runs."""
    configure(home=tmp_path / "home")
    for name in ("run", "logs", "workspaces"):
        (settings().home / name).mkdir(parents=True)
    monkeypatch.setattr(supervision, "programs", lambda _: [])
    supervision.start(settings(), {"PATH": os.environ["PATH"]})
    yield settings()
    supervisord.stop(settings())


@pytest.fixture
def workspace(own: Settings) -> Iterator[Path]:
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
    own: Settings, workspace: Path, tmp_path: Path, jail: bool, marker: str, outcome: str
) -> None:
    """The step returns the outcome, and supervisord does not restart it. A link counts as a marker."""
    rootfs = pack(write_root(tmp_path / "root"), tmp_path / "rootfs")
    LocalRuntime().open_shell(request(workspace, rootfs, jail=jail))
    assert LocalRuntime().shell_outcome(workspace.name) is None
    (markers(workspace, jail=jail) / marker).symlink_to("/does/not/exist")
    wait_for(lambda: LocalRuntime().shell_outcome(workspace.name) == outcome, 5, pause=0.1)
    name = service_name("serve_shell", workspace.name)
    wait_for(lambda: supervisord.states(own)[name] == "EXITED", 5)


def test_service_ends_the_shell(workspace: Path, tmp_path: Path) -> None:
    """It is asked to end, and does if nothing is missing. A shell that is not open cannot be asked."""
    with pytest.raises(UnavailableError, match="cannot be asked to end"):
        LocalRuntime().finish_shell(workspace.name)
    LocalRuntime().open_shell(request(workspace, pack(write_root(tmp_path / "root"), tmp_path / "rootfs")))
    LocalRuntime().finish_shell(workspace.name)
    wait_for(lambda: LocalRuntime().shell_outcome(workspace.name) == "complete", 5, pause=0.1)
    assert LocalRuntime().shell_refusal(workspace.name) is None


def test_refusal_is_that_of_the_last_request(workspace: Path) -> None:
    """Another request removes the old answer."""
    layout = Workspace(workspace)
    layout.shell_requests.mkdir()
    (layout.shell_requests / REFUSAL).write_text("the image has no kernel")
    assert LocalRuntime().shell_refusal(workspace.name) == "the image has no kernel"
    LocalRuntime().finish_shell(workspace.name)
    assert LocalRuntime().shell_refusal(workspace.name) is None
    assert [path.name for path in layout.shell_requests.iterdir()] == ["complete"]


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


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_port_is_the_announced_one(workspace: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    """If another program uses it, the shell takes the next; without a free one, it says which setting to change."""
    first, second = ports = free_ports(2)
    own = Settings(home=settings().home, shell_ports=f"{first}-{second}")
    monkeypatch.setattr(shells, "settings", lambda: own)
    announced = shell_port(workspace.name, own.shell_port_range)
    others = [announced, *(port for port in ports if port != announced)]
    with ExitStack() as servers:
        for port in others[:taken]:
            server = servers.enter_context(socket.socket())
            server.bind((own.host, port))
            server.listen()
        if taken < 2:
            assert shells._port(Workspace(workspace)) == others[taken]
        else:
            with pytest.raises(UnavailableError, match=f"{first}-{second}"):
                shells._port(Workspace(workspace))


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


def sshd_of(workspace: Path) -> int:
    """The process of the SSH server that listens on the port of a shell."""
    port = json.loads(Workspace(workspace).shell_address.read_text())["port"]
    listening = subprocess.run(["ss", "-Hltnp", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"pid=(\d+)", listening)[0])


def test_shell_that_dies_is_restarted(own: Settings, workspace: Path, tmp_path: Path) -> None:
    """It has the same host key and changes, and its user can still end it."""
    first = LocalRuntime().open_shell(request(workspace, pack(write_root(tmp_path / "root"), tmp_path / "rootfs")))
    changed = Workspace(workspace).changed_files / "etc" / "changed"
    changed.parent.mkdir(exist_ok=True)
    changed.touch()
    before = Workspace(workspace).shell_address.stat().st_mtime_ns
    os.kill(sshd_of(workspace), signal.SIGKILL)
    wait_for(lambda: is_announced_after(workspace, before), 20)
    assert ShellAddress.model_validate_json(Workspace(workspace).shell_address.read_text()) == first
    assert changed.exists()
    assert LocalRuntime().shell_outcome(workspace.name) is None
    (markers(workspace, jail=True) / "complete").touch()
    wait_for(lambda: LocalRuntime().shell_outcome(workspace.name) == "complete", 5, pause=0.1)


def test_shell_comes_back_with_the_stack(own: Settings, workspace: Path, tmp_path: Path) -> None:
    """If the stack stops and starts, the shell has the same address and host key."""
    first = LocalRuntime().open_shell(request(workspace, pack(write_root(tmp_path / "root"), tmp_path / "rootfs")))
    before = Workspace(workspace).shell_address.stat().st_mtime_ns
    supervisord.stop(own)
    supervision.start(own, {"PATH": os.environ["PATH"]})
    wait_for(lambda: is_announced_after(workspace, before), 20)
    assert ShellAddress.model_validate_json(Workspace(workspace).shell_address.read_text()) == first


def is_announced_after(workspace: Path, time_ns: int) -> bool:
    """Whether the step has announced its shell since a time."""
    path = Workspace(workspace).shell_address
    return path.exists() and path.stat().st_mtime_ns > time_ns
