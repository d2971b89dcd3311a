"""Attacks by the scripts of a recipe and by the programs of an image, through the product's front door.

A script has root's rights in the sandbox of its build, and may leave the image root. Each attack must fail, and what is
outside of the sandbox must stay as it is.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.artifacts import fetch, unpack
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import RepositoryServer
from tests.service import Service

SECRET = "a secret of the installation"
UPDATER = "/usr/sbin/update-ca-certificates"

# Shell commands that end with an error if the attack fails. Some try the box around the image root, too.
ATTACKS = {
    "secrets": "ls {home}/secrets",
    "secrets outside of the image root": "chroot /proc/1/root ls {home}/secrets",
    "secrets of any process": "cat /proc/[0-9]*/root{home}/secrets/planted",
    "records": "cat {home}/ims.db",
    "objects": "ls {home}/s3 || chroot /proc/1/root ls {home}/s3",
    "database": "chroot /proc/1/root ls {home}/postgres",
    "environment of the service": "grep -s -h AWS_SECRET_ACCESS_KEY /proc/[0-9]*/environ",
    "workspace of another job": "chroot /proc/1/root ls {home}/workspaces/{other}",
    "package roots of other recipes": "chroot /proc/1/root ls {home}/cache/roots",
    "own package root": "chroot /proc/1/root sh -c 'echo x > {home}/workspaces/*/package-root/etc/attacked'",
    "own package root, writable": "chroot /proc/1/root sh -c 'mount -o remount,rw {home}/workspaces/*/package-root'",
    "own package root below its mount": "chroot /proc/1/root sh -c 'umount -l {home}/workspaces/*/package-root'",
    "folder below the own image root": "chroot /proc/1/root sh -c 'cd {home}/workspaces/*/ && mv image-root.changes x'",
    "own package root for the cache": "chroot /proc/1/root sh -c 'ls {home}/workspaces/*/kept-root/*'",
    "images of others": "chroot /proc/1/root ls {home}/cache/images",
    "notes of the job": "chroot /proc/1/root sh -c 'echo x > {home}/workspaces/*/notes/provenance.json'",
    "recipe for the next try": "chroot /proc/1/root sh -c 'echo x >> {home}/workspaces/*/recipe/config.xml'",
    "results of steps": "chroot /proc/1/root sh -c 'ls {home}/workspaces/*/run/*'",
    "programs of the host": "chroot /proc/1/root touch /usr/bin/attacked",
    "programs after a remount": "chroot /proc/1/root mount -o remount,rw /usr",
    "programs below an unmounted view": "chroot /proc/1/root umount -l /usr",
    "start of the host": "chroot /proc/1/root sh -c 'echo attacked > /etc/cron.d/attacked'",
    "disk": "mknod /disk b 254 0 && head -c 1 /disk",
    "memory": "mknod /memory c 1 1 && head -c 1 /memory",
    "second proc": "mkdir /m1 && mount -t proc proc /m1 && cat /m1/1/root{home}/secrets/planted",
    "control groups": "mkdir /m2 && mount -t cgroup2 none /m2 || mount -t cgroup -o memory none /m2",
    "handles of the first process": "nsenter -t 1 -m -p -n cat {home}/secrets/planted",
    "user namespaces": "unshare -U true",
    "network namespaces": "unshare -n true",
    "core pattern": "echo '|/bin/sh' > /proc/sys/kernel/core_pattern",
    "sysrq": "echo b > /proc/sysrq-trigger",
    "kernel parameters": "echo 1 > /proc/sys/kernel/panic",
    "kernel modules": "insmod /boot/vmlinuz || modprobe loop",
    "kernel log": "dmesg",
    "host name": 'hostname attacked && test "$(cat /proc/sys/kernel/hostname)" = {hostname}',
    "processes of the host": "kill -9 {pid}",
    "S3 on loopback": "nc -w 2 127.0.0.1 {s3_port} < /dev/null",
    "API on loopback": "nc -w 2 127.0.0.1 {port} < /dev/null",
    "API through the proxy": "wget -q -T 5 -O - {url}/version",
    "S3 through the proxy": "wget -q -T 5 -O - {s3_url}",
    "metadata service": "wget -q -T 5 -O - http://169.254.169.254/latest/meta-data/",
    "another host through the proxy": "wget -q -T 5 -O - http://192.0.2.7/",
    "names": "nslookup example.com",
}
_RUN = """
attack() {{
    name=$1; shift
    output=$(sh -c "$1" 2>&1 < /dev/null); code=$?
    echo "$name|$code|$(echo "$output" | head -c 200 | tr '\\n|' '  ')" >> /etc/attacks-{phase}
}}
"""


@pytest.fixture
def other(service: Service) -> Iterator[str]:
    """The workspace of another job. What is outside of the sandbox must be the same after the test."""
    planted = service.settings.secrets / "planted"
    planted.write_text(SECRET)
    folder = service.settings.workspaces / "11111111-0000-0000-0000-000000000000"
    folder.mkdir(parents=True)
    (folder / "precious").write_text(SECRET)
    before = Path("/proc/sys/kernel/core_pattern").read_text(), _host_files()
    try:
        yield folder.name
        assert (folder / "precious").read_text() == planted.read_text() == SECRET
    finally:
        planted.unlink()
        shutil.rmtree(folder)
    assert (Path("/proc/sys/kernel/core_pattern").read_text(), _host_files()) == before
    assert socket.gethostname() != "attacked"


def test_scripts_of_a_recipe(service: Service, http_server: RepositoryServer, other: str, tmp_path: Path) -> None:
    """`config.sh` and `images.sh` try everything; the image contains the outcomes."""
    for lines in _build(service, http_server, tmp_path, other).values():
        _assert_refused(lines)


def test_script_of_a_customization(service: Service, small: dict[str, object], other: str, tmp_path: Path) -> None:
    """It tries the same in its jail, without a network; the image contains the outcomes."""
    job = _customize(service, small, script=_script(service, other, "script"), network="none")
    root = _root_of(service, job, tmp_path)
    _assert_refused(_outcomes(root / "etc/attacks-script"))


def _customize(service: Service, image: dict[str, object], **fields: str) -> dict[str, Any]:
    """Customize an image without a shell; returns the job when it has ended."""
    created = service.client.create(
        "jobs",
        job_type="customize",
        artifact_id=image["id"],
        public_key_id=service.public_key(),
        image_root_archive_name="attacked",
        **fields,
    )
    return service.wait(created["id"])


def _root_of(service: Service, job: dict[str, Any], folder: Path) -> Path:
    """Unpack the image that a job made, below `folder`; returns its root. The job must have succeeded."""
    assert job["status"] == "success", job["reason"]
    image = service.client.get(f"images/{job['resultant_image_id']}")
    return unpack(fetch(service, image, folder)["rootfs"], folder / "root")


def _assert_refused(outcomes: dict[str, tuple[str, str]]) -> None:
    assert set(outcomes) == set(ATTACKS)
    assert {name: output for name, (code, output) in outcomes.items() if code == "0"} == {}
    assert SECRET not in str(outcomes)
    assert "not found" not in " ".join(output for _, output in outcomes.values() if "applet" in output)


def _build(
    service: Service, server: RepositoryServer, folder: Path, other: str
) -> dict[str, dict[str, tuple[str, str]]]:
    """Build a recipe with the attacks; returns exit code and output of each, by script and name."""
    recipe = folder / "recipe"
    shutil.copytree(RECIPES / "zypper", recipe)
    for phase in ("config", "images"):
        (recipe / f"{phase}.sh").write_text(_script(service, other, phase))
    pushed = service.push(recipe, "sles15", REPOSITORY=server.url)
    root = _root_of(service, service.wait(service.create(pushed["id"])["id"]), folder)
    return {phase: _outcomes(root / f"etc/attacks-{phase}") for phase in ("config", "images")}


def _script(service: Service, other: str, phase: str) -> str:
    """A script that tries all attacks and notes the outcomes in its image."""
    values = {
        "home": service.settings.home,
        "other": other,
        "hostname": socket.gethostname(),
        "pid": os.getpid(),
        "port": service.settings.port,
        "s3_port": service.settings.s3_port,
        "url": f"{service.settings.airflow_url}/api/v2",
        "s3_url": service.settings.endpoint_url,
    }
    calls = [f"attack '{name}' {_quoted(_filled(command, values))}" for name, command in ATTACKS.items()]
    return "#!/bin/sh\n" + _RUN.format(phase=phase) + "\n".join(calls) + "\nexit 0\n"


def _filled(command: str, values: dict[str, object]) -> str:
    for name, value in values.items():
        command = command.replace(f"{{{name}}}", str(value))
    return command


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"


def _outcomes(path: Path) -> dict[str, tuple[str, str]]:
    rows = (line.split("|", 2) for line in path.read_text(errors="replace").splitlines())
    return {name: (code, output) for name, code, output in rows}


def _host_files() -> list[str]:
    """What an attacker would leave on the host."""
    return [str(path) for path in map(Path, ("/usr/bin/attacked", "/etc/cron.d/attacked")) if path.exists()]


def test_program_of_an_image_that_was_customized(service: Service, small: dict[str, object], tmp_path: Path) -> None:
    """A script removes the site's CA and replaces the program that the packaging then runs: it stays in its image."""
    planted = service.settings.secrets / "planted"
    planted.write_text(SECRET)
    script = f"""#!/bin/sh
        mkdir -p /usr/local/share/ca-certificates /usr/sbin
        rm -f /usr/local/share/ca-certificates/*
        cat > {UPDATER} << 'END'
#!/bin/sh
(chroot /proc/1/root cat {planted}; cat /proc/*/root{planted}; id -u) > /stolen 2>&1
END
        chmod 755 {UPDATER}
    """
    try:
        job = _customize(service, small, script=script)
    finally:
        planted.unlink()
    root = _root_of(service, job, tmp_path)
    stolen = (root / "stolen").read_text()
    assert stolen.endswith("0\n"), "the program did not run"
    assert SECRET not in stolen


def test_fork_bomb_ends_with_its_job(service: Service, http_server: RepositoryServer, tmp_path: Path) -> None:
    """The service answers while a script fills the process table of its sandbox, and the job ends."""
    recipe = tmp_path / "recipe"
    shutil.copytree(RECIPES / "zypper", recipe)
    (recipe / "config.sh").write_text("#!/bin/bash\nbomb() { bomb | bomb & }\nbomb\nsleep 2\nexit 1\n")
    pushed = service.push(recipe, "sles15", REPOSITORY=http_server.url)
    job = service.wait(service.create(pushed["id"])["id"])
    assert job["status"] == "error"
    assert "config.sh" in job["reason"] or "kiwi" in job["reason"]
    assert not service.workspace(job["id"]).exists()
