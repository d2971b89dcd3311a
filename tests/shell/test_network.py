"""The network of shells, scripts and playbooks."""

from __future__ import annotations

import shutil
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.errors import StepFailedError
from ims.runtime.local.process import StepProcess
from ims.runtime.local.runtime import LocalRuntime
from ims.shell import tools
from ims.shell.network import MAX_FILES, package_sources
from ims.steps.run_script import STEP
from tests.network.serving import WebServer, web_server
from tests.shell.small_image import pack, write_root

system = pytest.mark.system


def write_root_with_curl(root: Path) -> Path:
    """The root of the small image, with the curl of this machine."""
    write_root(root)
    curl = Path("/usr/bin/curl")
    for file in (curl, *tools.libraries(curl)):
        (root / file.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / file.relative_to("/"))
    return root


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small image with curl."""
    folder = tmp_path_factory.mktemp("image")
    return pack(write_root_with_curl(folder / "root"), folder / "rootfs")


@pytest.fixture
def workspace() -> Iterator[Path]:
    """The workspace of a job."""
    runtime, job = LocalRuntime(), str(uuid.uuid4())
    yield runtime.open_workspace(job, 1)
    runtime.close_workspace(job)


@pytest.fixture
def machine() -> Iterator[WebServer]:
    """A service of this machine that listens on the address of its network card."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.254", 9))
        own = probe.getsockname()[0]
    with web_server(own) as started:
        yield started


def run(workspace: Path, rootfs: Path, script: str, network: str) -> list[str]:
    """Run a script in the image; returns its output."""
    lines: list[str] = []
    data = {"workspace": str(workspace), "rootfs": str(rootfs), "script": script, "seconds": 60, "network": network}
    StepProcess().run(STEP, data, "script", lines.append)
    return lines


@system
@pytest.mark.parametrize("network", ["open", "repositories", "none"])
def test_script_does_not_reach_the_machine(workspace: Path, rootfs: Path, machine: WebServer, network: str) -> None:
    """Neither directly nor by the proxy."""
    script = (
        f"curl -m 9 -sS {machine.url}\n"
        f"curl -m 9 -sS --noproxy '*' {machine.url}\n"
        f"curl -m 9 -sS --noproxy '*' http://127.0.0.1:{machine.port}/\n"
        f"curl -m 9 -sS --proxytunnel {machine.url}\n"
        "echo end\n"
    )
    lines = run(workspace, rootfs, script, network)
    assert "end" in lines
    assert any(" is refused: " in line for line in lines)
    assert not machine.requests


@system
def test_open_network_reaches_others(
    workspace: Path, rootfs: Path, machine: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a proxy, too. Here the site allows the address of its machine."""
    monkeypatch.setenv("IMS_ALLOWED_NETWORKS", f"{machine.host}/32")
    script = f"curl -m 9 -sS --noproxy '*' {machine.url}a\ncurl -m 9 -sS {machine.url}b\n"
    run(workspace, rootfs, script, "open")
    assert machine.requests == ["GET /a", "GET /b"]


@system
def test_repositories_are_the_sources_of_the_image(
    workspace: Path, tmp_path: Path, machine: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other hosts are refused, and the reason of the failure names them with the field of the job."""
    monkeypatch.setenv("IMS_ALLOWED_NETWORKS", f"{machine.host}/32")
    root = write_root_with_curl(tmp_path / "root")
    (root / "etc/apt").mkdir(parents=True, exist_ok=True)
    (root / "etc/apt/sources.list").write_text(f"deb {machine.url} stable main\n")
    script = f"curl -m 9 -sSf {machine.url}a || exit 2\ncurl -m 9 -sSf http://other.example/ || exit 3\n"
    with pytest.raises(StepFailedError, match=r"exit code 3.*connections refused: other\.example:80") as caught:
        run(workspace, pack(root, tmp_path / "rootfs"), script, "repositories")
    assert caught.value.hint.startswith("Set network to open in the job")
    assert machine.requests == ["GET /a"]


def test_package_sources(tmp_path: Path) -> None:
    """Of all package managers. Links do not lead out of the image, and hostile addresses are left out."""
    files = {
        "etc/apt/sources.list": "deb [signed-by=/x] http://deb.example/debian stable main\n# http://old.example\n",
        "etc/apt/sources.list.d/a.sources": "URIs: https://two.example:8443/x, http://[bad\n",
        "etc/zypp/repos.d/a.repo": "baseurl=http://zypp.example/\n",
        "etc/yum.repos.d/a.repo": "mirrorlist=https://yum.example/?x\nbaseurl=ftp://ftp.example/\n",
    }
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    (tmp_path / "outside.repo").write_text("baseurl=http://outside.example/\n")
    (tmp_path / "root/etc/zypp/repos.d/b.repo").symlink_to(tmp_path / "outside.repo")
    found = package_sources(tmp_path / "root")
    assert sorted(found) == [
        "http://deb.example/debian",
        "http://old.example",
        "http://zypp.example/",
        "https://two.example:8443/x",
        "https://yum.example/?x",
    ]


def test_package_sources_are_bounded(tmp_path: Path) -> None:
    """An image may contain any number of files."""
    folder = tmp_path / "etc/zypp/repos.d"
    folder.mkdir(parents=True)
    for number in range(MAX_FILES + 10):
        (folder / f"{number}.repo").write_text(f"baseurl=http://{number}.example/\n")
    assert len(package_sources(tmp_path)) <= MAX_FILES
