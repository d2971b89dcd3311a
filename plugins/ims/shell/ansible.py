"""Ansible on an image: it runs in a sandbox of its own; over SSH, its tasks run in the jail."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ims.sandbox import box
from ims.sandbox.limits import Limits
from ims.sandbox.network import SandboxNetwork
from ims.sandbox.view import View, program_folders
from ims.shell import sshd

HOST = "image"
"""The image's host name in playbooks."""
PLAYBOOK = "site.yml"
ENVIRONMENT = {
    **{"ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1", "ANSIBLE_DEPRECATION_WARNINGS": "0"},
    "ANSIBLE_STDOUT_CALLBACK": "default",  # whose output tells what happened
    "HOME": "/root",
}
_RAN = re.compile(rf"^{HOST}\s+: ok=|^\w+: \[\S+ -> {HOST}\b")
"""The line of the recap, and that of a task that another host delegated."""
_LOOPBACK = "127.0.0.1"
_HOME = Path("/root")


def ran_on_image(output: Iterable[str]) -> bool:
    """Whether a playbook that printed these lines ran a task on the image, if only by `delegate_to`."""
    return any(_RAN.search(line) for line in output)


def command(playbook: Path, home: Path, network: SandboxNetwork, limits: Limits) -> list[str]:
    """The command line that runs `site.yml` of the folder `playbook`, with the home folder `home`.

    Ansible sees neither the image nor anything of the host but its programs.
    """
    folders = program_folders()
    for folder in folders:
        if folder.is_relative_to(_HOME):  # it is mounted in the home folder
            home.joinpath(folder.relative_to(_HOME)).mkdir(parents=True, exist_ok=True)
    view = View(
        writable=(playbook,),  # for the owners of its files
        readable=(playbook, *folders),
        home=home,
        network=network.namespace,
        resolv_conf=network.resolv_conf,
        limits=limits,
    )
    # Ansible is installed next to this program; its Python may be elsewhere.
    program = Path(sys.executable).with_name("ansible-playbook")
    start = ["env", f"--chdir={playbook}", str(program), "--inventory", f"{HOST},", PLAYBOOK]
    return box.command(view, start)


@contextmanager
def serving(host_key: Path, home: Path) -> Iterator[None]:
    """Start an SSH server with jailed sessions, and configure ssh in `home` so that `ssh image` logs in."""
    folder, port = home / ".ssh", sshd.free_port(_LOOPBACK)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = folder / "id"
    for path in (host_key, key):
        sshd.make_key(path)
    (folder / "known_hosts").write_text(f"{HOST} {host_key.with_suffix('.pub').read_text()}")
    (folder / "config").write_text(
        f"Host {HOST}\nHostName {_LOOPBACK}\nPort {port}\nHostKeyAlias {HOST}\n"
        f"User root\nIdentityFile ~/.ssh/{key.name}\n"
    )
    sshd.configure(_LOOPBACK, port, host_key, key.with_suffix(".pub").read_text())
    with sshd.serving(_LOOPBACK, port):
        yield
