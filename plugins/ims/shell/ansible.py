"""Ansible on an image: its programs run like an unjailed session; over SSH, its tasks run in the jail."""

from __future__ import annotations

import sys
from pathlib import Path

from ims.sandbox.bubblewrap import BWRAP, isolation
from ims.shell import jail, sessions, sshd

HOST = "image"
"""The image's host name in playbooks."""
PLAYBOOK = "site.yml"
ENVIRONMENT = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1", "ANSIBLE_DEPRECATION_WARNINGS": "0"}
_PLAYBOOK_FOLDER = Path("/mnt/playbook")
_LOOPBACK = "127.0.0.1"


def command(root: Path, image: Path, scratch: Path, playbook: Path) -> list[str]:
    """The command line that runs `site.yml` of the folder `playbook`. Ansible sees no more than an unjailed session."""
    for folder in (image, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    # Ansible is installed next to this program; its Python may be elsewhere.
    mounts = {Path(prefix): Path(prefix) for prefix in (sys.base_prefix, sys.prefix)} | {playbook: _PLAYBOOK_FOLDER}
    program = Path(sys.executable).with_name("ansible-playbook")
    return [
        *(BWRAP, "--seccomp", "7", "--unshare-pid", "--die-with-parent"),
        *isolation("ansible", str(_PLAYBOOK_FOLDER)),
        *jail.unjailed(root, image, scratch, mounts),
        *("--", str(program), "--inventory", f"{HOST},", PLAYBOOK),
    ]


def serve(host_key: Path, home: Path) -> None:
    """Start an SSH server with jailed sessions, and configure ssh in `home` so that `ssh image` logs in.

    The server ends with the step.
    """
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
    sessions.SharedProcesses()
    sshd.start(_LOOPBACK, port)
