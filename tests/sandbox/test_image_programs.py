"""Programs of images, in a box: they change their own image and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydantic import BaseModel

from ims.images import site_ca
from ims.sandbox.call import call
from ims.sandbox.view import View
from tests.sandbox.scripts import Ended, ImageScript, run_image_script
from tests.shell.small_image import write_root

pytestmark = pytest.mark.system

PROJECT = Path(__file__).parents[2]
UPDATER = "usr/sbin/update-ca-certificates"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image root that has a shell, and a trust store like Debian's."""
    root = write_root(tmp_path / "root")
    (root / "usr/local/share/ca-certificates").mkdir(parents=True)
    return root


def write_updater(root: Path, script: str) -> None:
    """Make a shell script the program of the image that updates its certificates."""
    program = root / UPDATER
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def run_script(root: Path, script: str, seconds: float = 60) -> Ended:
    """Run a shell script as a program of the image."""
    write_updater(root, script)
    argument = ImageScript(root=root, program=f"/{UPDATER}", seconds=seconds)
    return call(run_image_script, argument, View((root,), (PROJECT,)), environment={"PYTHONPATH": str(PROJECT)})


def test_program_changes_its_image(root: Path) -> None:
    """It runs as root of the image, with /dev and /proc."""
    ended = run_script(root, "id -u; echo new > /etc/motd; echo gone > /dev/null; cat /proc/self/comm")
    assert (ended.code, ended.output.splitlines()[0]) == (0, "0")
    assert (root / "etc/motd").read_text() == "new\n"
    assert list((root / "dev").iterdir()) == []


def test_program_that_never_ends_is_killed(root: Path) -> None:
    """So are the processes that it left in the background."""
    ended = run_script(root, "(while :; do echo x >> /alive; sleep 0.1; done) & sleep 600", seconds=2)
    assert ended.code < 0
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
    assert run_script(root, "true").code == 0
    assert list(target.iterdir()) == []
    assert (root / name).is_symlink()


class Trust(BaseModel):
    """An image root that gets a certificate."""

    root: Path
    certificate: Path
    further: list[str] = []


def trust(step: Trust) -> None:
    """Add the certificate; in the sandbox."""
    site_ca.add(step.root, step.certificate, step.further)


def test_update_of_the_site_ca_is_isolated(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A customized image without the site's CA and with an updater of its own gets nothing but its certificate."""
    certificate, secret = root.parent / "site-ca.crt", root.parent / "secret"
    certificate.write_text("certificate\n")
    secret.write_text("the host's secret")
    write_updater(root, f"cat {secret} /proc/1/root{secret} > /stolen; chroot /proc/1/root cat {secret} >> /stolen")
    argument, view = Trust(root=root, certificate=certificate), View((root,), (PROJECT, certificate))
    call(trust, argument, view, environment={"PYTHONPATH": str(PROJECT)})
    assert (root / "usr/local/share/ca-certificates/site-root-ca.crt").read_text() == "certificate\n"
    assert (root / "stolen").read_text() == ""
    assert "ended with exit code" in capfd.readouterr().out


def test_further_places_of_the_site_ca(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A customized image gets them, too. Links of the image lead nowhere else; a folder stays, and is named."""
    certificate, outside = root.parent / "site-ca.crt", root.parent / "outside"
    certificate.write_text("certificate\n")
    outside.mkdir()
    (root / "etc/site").mkdir(parents=True)
    (root / "linked").symlink_to(outside)
    further = ["/etc/cray/ca/certificate_authority.crt", "/linked/ca.pem", "/etc/site"]
    argument, view = Trust(root=root, certificate=certificate, further=further), View((root,), (PROJECT, certificate))
    call(trust, argument, view, environment={"PYTHONPATH": str(PROJECT)})
    assert (root / "etc/cray/ca/certificate_authority.crt").read_text() == "certificate\n"
    assert list(outside.iterdir()) == []
    assert (root / str(outside).removeprefix("/") / "ca.pem").read_text() == "certificate\n"
    assert "is not at /etc/site in the image" in capfd.readouterr().out
