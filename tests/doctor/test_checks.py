"""The checks of `ims doctor`."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import httpx
import pytest
from pydantic import HttpUrl

from ims.client import ImsClient
from ims.doctor import checks, cluster, installation, machine, s3
from ims.doctor.finding import Finding, ok
from ims.errors import ConfigurationError
from ims.sandbox import box, limits
from ims.sandbox.limits import Limits
from ims.sandbox.view import View
from ims.settings import Settings, settings
from ims.stack.certificates import make_ca
from ims.stack.credentials import ensure_credentials
from tests.ceph import CephGateway
from tests.seaweedfs import running

IMS = Path(sys.executable).parent / "ims"


def test_every_check_has_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that fails is a finding, too, and the others go on."""

    def breaks(_settings: Settings) -> Finding:
        raise ConfigurationError("it is broken", "Mend it")

    def forbidden(_settings: Settings) -> Finding:
        raise PermissionError(13, "Permission denied", "/var/lib/ims/secrets")

    table = (
        checks.Check("a", breaks),
        checks.Check("b", forbidden),
        checks.Check("c", lambda _: ok("fine")),
        checks.Check("d", lambda _: ok("fine"), "kubernetes"),
    )
    monkeypatch.setattr(checks, "CHECKS", table)
    a, b, c = checks.examine(Settings(home=tmp_path))
    assert a == {"check": "a", "status": "missing", "value": "it is broken", "next_step": "Mend it"}
    assert (b["status"], "/var/lib/ims/secrets" in b["value"]) == ("missing", True)
    assert c["status"] == "ok"


@pytest.mark.parametrize(
    ("release", "status"), [("6.1.0-18-amd64", "ok"), ("6.18.44-x", "ok"), ("5.15.0-91-generic", "missing")]
)
def test_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, release: str, status: str) -> None:
    """Debian 12 has the oldest one."""
    monkeypatch.setattr(platform, "release", lambda: release)
    assert machine.kernel(Settings(home=tmp_path)).status == status


@pytest.mark.parametrize(
    ("enabled", "folders", "status", "value"),
    [
        ("cpu memory pids", (), "ok", "v2: memory, pids"),
        ("cpu pids", (), "warning", "v2: pids; rlimits bound the processes of a sandbox, and nothing its memory"),
        ("cpu memory", (), "ok", "v2: memory; rlimits bound the processes"),
        ("", ("memory", "pids"), "warning", "none; rlimits"),
        (None, ("memory", "pids"), "ok", "v1: memory, pids"),
        (None, ("pids",), "warning", "v1: pids; rlimits"),
        (None, (), "warning", "none; rlimits"),
    ],
)
def test_cgroups(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    enabled: str | None,
    folders: tuple[str, ...],
    status: str,
    value: str,
) -> None:
    """What is reported is what a sandbox gets: in version 2, controllers that are not passed on limit nothing."""
    monkeypatch.setattr(limits, "_REMOVAL_SECONDS", 0)  # these files do not disappear with their folder
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    if enabled is not None:
        (tmp_path / "cgroup.subtree_control").write_text(enabled)
    for name in folders:
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    found = machine.cgroups(Settings(home=tmp_path), tmp_path)
    assert found.status == status
    assert found.value.startswith(value)


@pytest.mark.system
def test_cgroups_of_this_machine(tmp_path: Path) -> None:
    """The group of a box is in the hierarchies that are reported."""
    program = "cat /proc/self/cgroup"
    view = View((tmp_path,), limits=Limits(memory=1 << 30))
    shown = subprocess.run(box.command(view, ["sh", "-c", program]), cwd=tmp_path, capture_output=True, text=True)
    joined = [line.split(":")[1] for line in shown.stdout.splitlines() if "ims-box-" in line]
    found = limits.controllers()
    assert machine.cgroups(Settings(home=tmp_path)).status == ("ok" if "memory" in found.names else "warning")
    assert len(joined) == (len(found.names) if found.version == 1 else bool(found.names))
    assert found.version != 1 or sorted(joined) == list(found.names)


def test_missing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named."""
    monkeypatch.setattr(machine, "PROGRAMS", ("sh", "no-such-program"))
    found = machine.programs(Settings(home=tmp_path))
    assert (found.status, found.value) == ("missing", "there is no no-such-program")


@pytest.mark.parametrize(
    ("home", "status"),
    [("/tmp/ims", "warning"), ("/var/tmp", "warning"), ("/srv/../tmp/x", "warning"), ("/srv/tmp", "ok")],
)
def test_home(home: str, status: str) -> None:
    """Images that are built below /tmp differ in the mode of /tmp."""
    assert installation.home(Settings(home=Path(home))).status == status


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less space than one job needs is missing, less than all of them need is a warning."""
    for free, status in ((1, "missing"), (10, "warning"), (100, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free * 1024**3, total=0))
        own = Settings(home=tmp_path / "none", build_env_size=4, parallelism=4)
        assert installation.disk(own).status == status, free


def test_disk_of_s3_is_almost_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configure: Callable[..., None]
) -> None:
    """New jobs wait, and the finding names the disk."""
    configure(disk_watermark_mib=5120)
    (tmp_path / "s3").mkdir()
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: SimpleNamespace(free=(1 if path == tmp_path / "s3" else 900) * 1024**3, total=1000 * 1024**3),
    )
    found = installation.disk(Settings(home=tmp_path))
    expected = f"the disk of {tmp_path}/s3 has 1024 MiB free; new jobs wait until it has 5120 MiB"
    assert (found.status, found.value) == ("missing", expected)
    elsewhere = Settings(home=tmp_path, s3_endpoint_url=HttpUrl("https://s3.example"))
    assert installation.disk(elsewhere).status == "ok"


def test_damaged_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The finding names the first ones."""
    own = Settings(home=tmp_path, port=1)
    assert installation.images(own).status == "ok"
    ensure_credentials(own)
    assert installation.images(own).status == "warning"
    known: list[dict[str, str]] = []
    client = SimpleNamespace(get=lambda path, damaged: known)
    monkeypatch.setattr(ImsClient, "login", lambda *_: client)
    assert installation.images(own) == ok("none is known to be damaged")
    known += [{"name": f"image-{number}", "id": str(number)} for number in range(5)]
    found = installation.images(own)
    assert found.status == "missing"
    assert found.value == "objects are missing or damaged: image-0 (0), image-1 (1), image-2 (2) and 2 more"


@pytest.mark.parametrize(("days", "status"), [(-1, "missing"), (0, "ok"), (3600, "warning"), (3660, "missing")])
def test_ca_certificate(days: int, status: str) -> None:
    """It is not valid yet, valid, ends soon, or has ended."""
    now = datetime.now(UTC) + timedelta(days=days)
    assert installation.validity(make_ca("site").certificate, now).status == status


def test_no_ca_certificate(tmp_path: Path) -> None:
    """`make up` creates one, unless the settings name another file."""
    assert installation.ca_certificate(Settings(home=tmp_path, ca_certificate=None)).status == "warning"
    path = tmp_path / "ca.pem"
    assert installation.ca_certificate(Settings(home=tmp_path, ca_certificate=path)).status == "missing"
    path.write_text("no certificate")
    assert installation.ca_certificate(Settings(home=tmp_path, ca_certificate=path)).status == "missing"


@pytest.mark.parametrize(("seconds", "status"), [(0, "ok"), (60, "warning"), (3600, "missing"), (-3600, "missing")])
def test_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int, status: str) -> None:
    """S3 says what time it is."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    monkeypatch.setattr(s3, "_answer", lambda _: httpx.Response(200, headers={"Date": date}))
    assert s3.clock(Settings(home=tmp_path)).status == status


def test_s3_of_the_site_is_away(tmp_path: Path) -> None:
    """That is worse than an embedded S3 that does not run yet."""
    own = Settings(home=tmp_path, s3_endpoint_url=HttpUrl("http://127.0.0.1:1"))
    assert s3.reachable(own).status == "missing"
    assert s3.reachable(Settings(home=tmp_path, s3_port=1, s3_endpoint_url=None)).status == "warning"


def test_store_without_token_service(tmp_path: Path) -> None:
    """Steps then have all rights of the service, which is a warning."""
    own = Settings(home=tmp_path, s3_endpoint_url=HttpUrl("http://127.0.0.1:1"), sts_role="")
    assert s3.rights_of_steps(own).status == "warning"


@pytest.mark.parametrize(("forbidden", "status"), [((), "ok"), ((("secrets", "create"),), "missing")])
def test_rights_in_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbidden: tuple[tuple[str, str], ...], status: str
) -> None:
    """What the service may not do is named."""
    monkeypatch.setattr(cluster, "core_api", lambda: SimpleNamespace(api_client=None))
    monkeypatch.setattr(cluster, "_may", lambda _api, _settings, kind, verb: (kind, verb) not in forbidden)
    found = cluster.rights(Settings(home=tmp_path))
    assert found.status == status
    assert all(f"{verb} {kind}" in found.value for kind, verb in forbidden)


def run_doctor(home: Path, **more: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the command; returns its exit code and its findings."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME")}
    environment |= {"IMS_HOME": str(home), "IMS_PORT": "1", "IMS_S3_PORT": "1", **more}
    command = [str(IMS), "doctor", "--format", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_without_a_running_service(tmp_path: Path) -> None:
    """The command says what does not run, and that is no failure."""
    _, findings = run_doctor(tmp_path)
    found = {finding["check"]: finding for finding in findings}
    assert found["API"]["status"] == "warning"
    assert found["S3"]["next_step"] == "Start the service: make up"
    assert set(found) == {check.name for check in checks.CHECKS if check.runtime != "kubernetes"}


def test_exit_code(tmp_path: Path) -> None:
    """It is 1 if something is missing."""
    code, findings = run_doctor(tmp_path, IMS_CA_CERTIFICATE=str(tmp_path / "none.pem"))
    assert "missing" in {finding["status"] for finding in findings}
    assert code == 1


def test_wrong_setting(tmp_path: Path) -> None:
    """The command names it with its value, as does the start of the service."""
    environment = {"PATH": os.environ["PATH"], "IMS_HOME": str(tmp_path), "IMS_NIGHTLY_SCHEDULE": "0 25 * * *"}
    environment["IMS_NIGHTLY_TIMEZONE"] = "Mars/Olympus"
    for command in ([str(IMS), "doctor"], [sys.executable, "-m", "ims.stack", "up"]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        for text in ("IMS_NIGHTLY_SCHEDULE: ", "'0 25 * * *'", "IMS_NIGHTLY_TIMEZONE: ", "Mars/Olympus"):
            assert text in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def s3_settings(gateway: CephGateway | None, tmp_path: Path) -> Iterator[Settings]:
    """The settings of an installation whose S3 runs: the embedded one, or Ceph if IMS_TEST_S3 is `ceph`."""
    if gateway is not None:
        yield settings()
        return
    with running(tmp_path) as embedded:
        yield embedded.settings


def test_s3(s3_settings: Settings) -> None:
    """All checks of an S3 that is set up as the documentation says are good, and leave nothing."""
    names = ("reachable", "rights", "rights_of_steps", "internal_ports", "clock")
    assert {name: getattr(s3, name)(s3_settings).status for name in names} == dict.fromkeys(names, "ok")
    assert s3.session_tokens(s3_settings).status == ("ok" if s3_settings.s3_endpoint_url is None else "warning")
    left = [item for bucket in s3_settings.buckets for item in s3._store(s3_settings).objects(bucket, ".doctor/")]
    assert left == []


@pytest.mark.system
def test_sandbox(tmp_path: Path) -> None:
    """A program runs in a box on this machine."""
    assert machine.sandbox(Settings(home=tmp_path / "absent")).status == "ok"


@pytest.mark.system
@pytest.mark.parametrize(
    ("value", "text"), [("kernel", "mounted, because of IMS_SQUASHFS"), ("unpack", "unpacked in a sandbox, because of")]
)
def test_squashfs(tmp_path: Path, value: Literal["kernel", "unpack"], text: str) -> None:
    """The finding says how images are read on this machine, and why. Nothing is left."""
    own = Settings(home=tmp_path, squashfs=value)
    found = machine.squashfs(own)
    assert (found.status, found.value[: len(text)]) == ("ok", text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("value", "status"), [("kernel", "missing"), ("unpack", "ok")])
def test_no_loop_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Literal["kernel", "unpack"], status: str
) -> None:
    """They are needed only to mount images."""
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    assert machine.loop_devices(Settings(home=tmp_path, squashfs=value)).status == status
