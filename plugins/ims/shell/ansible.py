"""Ansible on an image: its programs in the surroundings of an unjailed session, its tasks in the jail, over SSH."""

from __future__ import annotations

import sys
from pathlib import Path

from ims.shell import jail, sessions, sshd

HOST = "image"
"""What playbooks call the image."""
PLAYBOOK = "site.yml"
ENVIRONMENT = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1", "ANSIBLE_DEPRECATION_WARNINGS": "0"}
_SHOWN = Path("/mnt/playbook")
_LOOPBACK = "127.0.0.1"


def command(root: Path, image: Path, scratch: Path, playbook: Path) -> list[str]:
    """The command line that runs `site.yml` of the folder `playbook`, which sees no more than a session does."""
    for folder in (image, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    # Ansible is installed where this program is, its Python perhaps elsewhere.
    besides = {Path(prefix): Path(prefix) for prefix in (sys.base_prefix, sys.prefix)} | {playbook: _SHOWN}
    program = Path(sys.executable).with_name("ansible-playbook")
    return [
        *("bwrap", "--seccomp", "7", "--unshare-pid", "--die-with-parent"),
        *jail.isolation("ansible", str(_SHOWN)),
        *jail.unjailed(root, image, scratch, besides),
        *("--", str(program), "--inventory", f"{HOST},", PLAYBOOK),
    ]


def serve(private: Path, home: Path) -> None:
    """Start an SSH server whose sessions are those of the jail, and give `home` what `ssh image` needs to log in.

    It ends with the step.
    """
    folder, port = home / ".ssh", sshd.free_port(_LOOPBACK)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    host_key, key = private / "host_key", folder / "id"
    for made in (host_key, key):
        sshd.make_key(made)
    (folder / "known_hosts").write_text(f"{HOST} {host_key.with_suffix('.pub').read_text()}")
    (folder / "config").write_text(
        f"Host {HOST}\nHostName {_LOOPBACK}\nPort {port}\nHostKeyAlias {HOST}\n"
        f"User root\nIdentityFile ~/.ssh/{key.name}\n"
    )
    sshd.configure(_LOOPBACK, port, host_key, key.with_suffix(".pub").read_text())
    sessions.Processes()
    sshd.start(_LOOPBACK, port)
