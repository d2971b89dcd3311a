"""Scripts and playbooks in the jail, and a user's own Ansible over SSH in both kinds of shell."""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ims.errors import StepFailedError
from ims.runtime.local.process import StepProcess
from ims.runtime.local.runtime import LocalRuntime
from ims.shell import tools
from ims.steps.run_script import STEP
from ims.workspace import Workspace
from tests.running import running_commands
from tests.shell.small_image import pack, write_root
from tests.shell.test_shell import Shell, make_key

pytestmark = pytest.mark.system

MODULES = """\
- hosts: all
  tasks:
    - ansible.builtin.template: {src: issue.j2, dest: /etc/issue, mode: "0600"}
    - ansible.builtin.lineinfile: {path: /etc/group, line: "hpc:x:4000:"}
"""


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small image."""
    folder = tmp_path_factory.mktemp("image")
    return pack(write_root(folder / "root"), folder / "rootfs")


@pytest.fixture(scope="module")
def with_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small image with the host's Python, which Ansible's modules require."""
    folder = tmp_path_factory.mktemp("image")
    root = write_root(folder / "root")
    shutil.copytree("/usr/lib/python3.11", root / "usr/lib/python3.11", symlinks=True)
    compiled = Path("/usr/lib/python3.11/lib-dynload")
    for program in (Path("/usr/bin/python3.11"), *compiled.glob("*.so")):
        for file in (program, *tools.libraries(program)):
            (root / file.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / file.relative_to("/"))
    (root / "usr/bin/python3").symlink_to("python3.11")
    return pack(root, folder / "rootfs")


@pytest.fixture
def workspace() -> Iterator[Path]:
    """The workspace of a job."""
    runtime, job = LocalRuntime(), str(uuid.uuid4())
    yield runtime.open_workspace(job, 1)
    runtime.close_workspace(job)


def add_playbook(workspace: Path, files: dict[str, str]) -> None:
    """Put the archive of a playbook into a workspace."""
    with tarfile.open(Workspace(workspace).playbook_archive, "w:gz") as packed:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            packed.addfile(member, io.BytesIO(text.encode()))


def run(workspace: Path, rootfs: Path, script: str | None, seconds: int = 60) -> list[str]:
    """Run a script, or the playbook in the workspace; returns its output."""
    lines: list[str] = []
    data: dict[str, Any] = {"workspace": str(workspace), "rootfs": str(rootfs), "script": script, "seconds": seconds}
    StepProcess().run(STEP, data, "script", lines.append)
    return lines


def test_script_is_jailed(workspace: Path, rootfs: Path) -> None:
    """It is root in the image and sees no processes, credentials or folders of the host."""
    lines = run(workspace, rootfs, "#!/bin/ash\nid -u; ls /; ls /proc | grep -c '^[0-9]'; env; ls /proc/self/fd\n")
    assert lines[0] == "0"
    assert "work" not in lines
    assert int(next(line for line in lines if line.isdigit() and line != "0")) < 6
    assert not [line for line in lines if line.startswith(("AWS", "IMS_HOME", "AIRFLOW"))]


def test_each_try_starts_from_the_original(workspace: Path, rootfs: Path) -> None:
    """The changes of a try that was killed in the middle are gone, and so are its processes."""
    process = StepProcess()

    def kill(line: str) -> None:
        if line == "written":
            process.kill()

    data = {"workspace": str(workspace), "rootfs": str(rootfs), "seconds": 60}
    script = "echo half > /etc/half; echo half >> /etc/motd; sleep 875 & echo written; sleep 875"
    with pytest.raises(StepFailedError) as caught:
        process.run(STEP, {**data, "script": script}, "script", kill)
    assert not caught.value.permanent
    assert (Workspace(workspace).changed_files / "etc/half").exists()
    assert "before" in run(workspace, rootfs, "ls /etc/half; cat /etc/motd; echo whole > /etc/whole")
    assert {path.name for path in (Workspace(workspace).changed_files / "etc").glob("*[lt][efd]*")} == {"whole"}
    assert b"sleep\x00875\x00" not in running_commands()


@pytest.mark.parametrize("name", ["script", "playbook"])
def test_failure_is_final(workspace: Path, rootfs: Path, name: str) -> None:
    """Another try cannot help a script or a playbook that fails, also if it is the second try."""
    tasks = "- hosts: all\n  gather_facts: false\n  tasks: [{fail: {msg: so it is}}]\n"
    add_playbook(workspace, {"site.yml": tasks})
    for _ in range(2):
        with pytest.raises(StepFailedError, match="so it is") as caught:
            run(workspace, rootfs, "echo so it is; exit 75" if name == "script" else None)
        assert caught.value.permanent


def test_script_that_takes_too_long(workspace: Path, rootfs: Path) -> None:
    """All its processes are killed, and another try cannot help."""
    with pytest.raises(StepFailedError, match="was stopped after 1 s") as caught:
        run(workspace, rootfs, "sleep 876 & sleep 876", seconds=1)
    assert caught.value.permanent
    assert b"sleep\x00876\x00" not in running_commands()


def test_image_without_a_shell(workspace: Path, tmp_path: Path) -> None:
    """The error says what the image lacks."""
    (tmp_path / "root" / "etc").mkdir(parents=True)
    with pytest.raises(StepFailedError, match="exit code") as caught:
        run(workspace, pack(tmp_path / "root", tmp_path / "rootfs"), "true")
    assert caught.value.permanent


def test_playbook_with_modules(workspace: Path, with_python: Path) -> None:
    """Facts, templates and modules work. The files that Ansible leaves in the image are removed."""
    template = "{{ inventory_hostname }} has Python {{ ansible_python_version }}\n"
    add_playbook(workspace, {"site.yml": MODULES, "templates/issue.j2": template})
    lines = run(workspace, with_python, None)
    assert any(line.startswith("PLAY RECAP") for line in lines)
    upper = Workspace(workspace).changed_files
    assert (upper / "etc/issue").read_text().startswith("image has Python 3.11")
    assert (upper / "etc/issue").stat().st_mode & 0o777 == 0o600
    assert "hpc:x:4000:" in (upper / "etc/group").read_text()


NO_MATCH = "- hosts: Compute:&cfs_image\n  gather_facts: false\n  tasks: [{raw: echo configured > /etc/site}]\n"
GROUPED = "- hosts: all\n  gather_facts: false\n  tasks: [{group_by: {key: Compute}}, {group_by: {key: cfs_image}}]\n"
DELEGATED = NO_MATCH.replace("Compute:&cfs_image", "localhost").replace("{raw:", "{delegate_to: image, raw:")


@pytest.mark.parametrize("text", [NO_MATCH, NO_MATCH.replace("Compute:&cfs_image", "localhost")], ids=repr)
def test_playbook_that_does_not_match_the_image(workspace: Path, rootfs: Path, text: str) -> None:
    """It would give an unchanged image, so it is an error, whatever callback the playbook configures."""
    add_playbook(workspace, {"site.yml": text, "ansible.cfg": "[defaults]\nstdout_callback = minimal\n"})
    with pytest.raises(StepFailedError, match=r"no play of site\.yml matched the image") as caught:
        run(workspace, rootfs, None)
    assert caught.value.permanent


@pytest.mark.parametrize("text", [GROUPED + NO_MATCH, NO_MATCH + GROUPED + NO_MATCH, DELEGATED], ids=repr)
def test_playbook_that_matches_the_image_in_part(workspace: Path, rootfs: Path, text: str) -> None:
    """Plays for other hosts are skipped; groups can be made while the playbook runs."""
    add_playbook(workspace, {"site.yml": text})
    run(workspace, rootfs, None)
    assert (Workspace(workspace).changed_files / "etc/site").read_text() == "configured\n"


@pytest.mark.parametrize("jail", [True, False], ids=["jailed", "unjailed"])
def test_ansible_over_ssh(with_python: Path, tmp_path: Path, jail: bool) -> None:
    """A user's Ansible sends a module and a file to the shell like to any host."""
    shell = Shell(make_key(tmp_path, "user"), with_python, jail=jail).start()
    (tmp_path / "motd").write_text("by ansible\n")
    shell.client(
        *(Path(sys.executable).with_name("ansible"), "all", "-i", "127.0.0.1,", "-u", "root"),
        f"--ssh-common-args={' '.join(map(str, shell.options()))}",
        *("-m", "ansible.builtin.copy", "-a", f"src={tmp_path}/motd dest={shell.image}/etc/motd mode=0600"),
    )
    assert (shell.upper / "etc/motd").read_text() == "by ansible\n"
    assert (shell.upper / "etc/motd").stat().st_mode & 0o777 == 0o600
    shell.remove()
