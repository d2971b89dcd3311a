"""The programs that take part in a build: whatever changes in them is seen."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import ims
from ims.builder import programs
from ims.builder.customization import environment
from ims.builder.programs import NO_MANAGER, code_digest, versions
from ims.errors import ConfigurationError

INSTALLED = """\
installed\tzypper\t1.14\t\tlibzypp1722 (>= 1), libc6:any
installed\tlibzypp1722\t17.25\tlibzypp\tlibsolv1 | libsolv0
installed\tlibsolv1\t0.7.23\t\t
installed\tlibc6\t2.36\t\t
installed\trpm\t4.18\t\t
installed\tdnf\t4.14\t\tpython3-dnf
installed\tpython3-dnf\t4.14\t\t
installed\tsquashfs-tools\t4.5\t\tlibc6
not-installed\tdpkg\t\t\t
installed\tcowsay\t3.0\t\tlibc6
"""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets what dpkg says is installed."""

    def install(packages: str) -> None:
        def answer(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
            return subprocess.CompletedProcess([], 0, packages, "")

        programs._packages.cache_clear()
        monkeypatch.setattr(subprocess, "run", answer)

    yield install
    programs._packages.cache_clear()


def test_packages(machine: Callable[[str], None]) -> None:
    """The programs are named with their versions. All that they need, and nothing else, has a digest."""
    machine(INSTALLED)
    before = versions("zypper")
    assert (before["zypper"], before["rpm"], "dnf" in before) == ("1.14", "4.18", False)
    for changed in ("0.7.23", "17.25", "2.36"):
        machine(INSTALLED.replace(changed, f"{changed}.1"))
        assert versions("zypper") != before
    machine(INSTALLED.replace("cowsay\t3.0", "cowsay\t3.1").replace("dnf\t4.14", "dnf\t4.15"))
    assert versions("zypper") == before
    assert versions("dnf4")["dnf"] == "4.15"


def test_missing_program(machine: Callable[[str], None]) -> None:
    """The error names it."""
    machine(INSTALLED)
    with pytest.raises(ConfigurationError, match="are missing: apt, dpkg"):
        versions("apt")


def test_settings(machine: Callable[[str], None], configure: Callable[..., None]) -> None:
    """Those that change the image are among the versions."""
    machine(INSTALLED)
    before = versions("zypper")
    for change in ({"squashfs_level": 7}, {"image_secrets": "keep"}, {"squashfs_splice_builds": True}):
        configure(**change)
        assert versions("zypper") != before


@pytest.mark.parametrize(
    ("name", "is_seen"),
    [
        ("shell/ansible.py", True),
        ("network/policy.py", True),
        ("programs.py", True),
        ("new_room/new.py", True),
        ("api/app.py", False),
        ("client.py", False),
        ("shell/__pycache__/ansible.cpython-311.pyc", False),
    ],
)
def test_code(tmp_path: Path, name: str, is_seen: bool) -> None:
    """A change of any part of this project that makes images is seen, although its version stays the same."""
    source = Path(ims.__file__).parent
    shutil.copytree(source, tmp_path / "before", ignore=shutil.ignore_patterns("__pycache__", "ui", "recipes"))
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    changed = tmp_path / "after" / name
    changed.parent.mkdir(exist_ok=True)
    with changed.open("a") as file:
        file.write("\n")
    assert (code_digest(tmp_path / "before") != code_digest(tmp_path / "after")) is is_seen


def test_code_is_the_same_everywhere(tmp_path: Path) -> None:
    """Neither the folder of the project nor compiled files change the digest."""
    source = Path(ims.__file__).parent
    shutil.copytree(source, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__", "api"))
    assert code_digest(source) == code_digest(tmp_path / "copy")


def test_ansible(machine: Callable[[str], None], configure: Callable[..., None], tmp_path: Path) -> None:
    """Its version is among the programs of customizations: what a playbook does depends on it."""
    machine(INSTALLED)
    (tmp_path / "ca.pem").write_text("the certificate")
    configure(ca_certificate=tmp_path / "ca.pem")
    assert environment().builder.items() >= {**versions(NO_MANAGER), "ansible-core": version("ansible-core")}.items()
