"""Programs of hostile images: they change their own image and nothing else."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.images import site_ca
from ims.sandbox.image_programs import run_isolated
from tests.shell.small_image import write_root

pytestmark = pytest.mark.system

UPDATER = "usr/sbin/update-ca-certificates"
SECRET = "the host's secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image root that has a shell, and a trust store like Debian's."""
    root = write_root(tmp_path / "root")
    (root / "usr/local/share/ca-certificates").mkdir(parents=True)
    return root


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host that the image must not read or change."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


@pytest.fixture
def server() -> Iterator[int]:
    """The port of a service on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def run_script(root: Path, script: str, seconds: float = 60) -> tuple[int, str]:
    """Run a shell script as the program of the image that updates its certificates."""
    program = root / UPDATER
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    code, lines = run_isolated(root, f"/{UPDATER}", seconds)
    return code, "\n".join(lines)


def test_program_changes_its_image(root: Path) -> None:
    """It runs as root of the image, with /dev and /proc."""
    code, output = run_script(root, "id -u; echo new > /etc/motd; echo gone > /dev/null; cat /proc/1/comm")
    assert code == 0
    assert output.splitlines()[0] == "0"
    assert (root / "etc/motd").read_text() == "new\n"
    assert list((root / "dev").iterdir()) == []


@pytest.mark.parametrize(
    "attack",
    [
        "chroot /proc/1/root cat {secret}",
        "cat /proc/1/root{secret}",
        "for process in /proc/[0-9]*; do cat $process/root{secret} $process/cwd{secret}; done",
        "mkdir /m && mount -t proc proc /m && cat /m/1/root{secret}",
        "mount -o bind / /mnt; mount -t devtmpfs devtmpfs /dev && cat /dev/vda | head -c 1",
        "mknod /disk b 254 0 && head -c 1 /disk",
        "mknod /memory c 1 1 && head -c 1 /memory",
        "echo '|/bin/sh' > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/vm/drop_caches",
        "unshare -U -r /bin/true",
        "mkdir -p /m && mount -t tmpfs tmpfs /m",
        "umount /proc",
        "hostname attacked && nsenter -t 1 -m cat {secret}",
        "head -c 1 /proc/kcore",
        "nc -w 2 127.0.0.1 {port} < /dev/null",
        "nc -w 2 ::1 {port} < /dev/null",
        "nc -w 2 0.0.0.0 {port} < /dev/null",
        "nc -w 2 169.254.169.254 80 < /dev/null",
        "ip link set lo down && ip link add d0 type dummy",
    ],
)
def test_attack_fails(root: Path, secret: Path, server: int, attack: str) -> None:
    """The attack ends with an error, and nothing of the host is shown or changed."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    code, output = run_script(root, attack.format(secret=secret, port=server))
    assert code != 0, output
    assert "not found" not in output, "the image lacks the program that the attack needs"
    assert SECRET not in output
    assert secret.read_text() == SECRET
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern
    assert socket.gethostname() != "attacked"


def test_program_that_never_ends_is_killed(root: Path, tmp_path: Path) -> None:
    """So are the processes that it left in the background."""
    code, _ = run_script(root, "(while :; do echo x >> /alive; sleep 0.1; done) & sleep 600", seconds=2)
    assert code < 0
    size = (root / "alive").stat().st_size
    time.sleep(0.5)
    assert (root / "alive").stat().st_size == size


@pytest.mark.parametrize("name", ["proc", "dev"])
def test_links_in_place_of_mount_points(root: Path, tmp_path: Path, name: str) -> None:
    """Nothing is mounted where the image has a link, and the target of the link stays as it is."""
    target = tmp_path / "target"
    target.mkdir()
    (root / name).rmdir()
    (root / name).symlink_to(target)
    code, _ = run_script(root, "true")
    assert code == 0
    assert list(target.iterdir()) == []
    assert (root / name).is_symlink()


def test_update_of_the_site_ca_is_isolated(root: Path, secret: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A customized image without the site's CA and with an updater of its own gets nothing but its certificate."""
    certificate = root.parent / "site-ca.crt"
    certificate.write_text("certificate\n")
    program = root / UPDATER
    program.write_text(f"#!/bin/sh\nchroot /proc/1/root cat {secret} > /stolen\n")
    program.chmod(0o755)
    site_ca.add(root, certificate)
    assert (root / "usr/local/share/ca-certificates/site-root-ca.crt").read_text() == "certificate\n"
    assert SECRET not in (root / "stolen").read_text()
    assert "ended with exit code" in caplog.text
