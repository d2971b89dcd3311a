"""Replaces parts of the host's file system for one step, in the mount namespace of the step.

After this, sshd and the sessions change nothing outside of the step.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ims.sandbox.overlay import mount
from ims.sandbox.view import make_devices
from ims.shell import paths, tools

_ROOT_ENTRY = "root:x:0:0:root:/root:/bin/sh"
# Lets root log in with a key even if the host's root is locked.
_SHADOW_ENTRY = "root:*:20000:0:99999:7:::"
_TUN = 10, 200
"""The device with which the NAT of sessions connects them. They do not see it."""


def prepare() -> None:
    """Mount private folders and install the tools for sessions. Raises ConfigurationError if a program is missing."""
    _replace_mounts()
    tools.install()


def _replace_mounts() -> None:
    """Mount private versions of /run, /etc/ssh, /var/log, /dev and the accounts."""
    _mount_tmpfs("/dev")
    make_devices(Path("/dev"))
    Path("/dev/net").mkdir()
    os.mknod("/dev/net/tun", stat.S_IFCHR | 0o666, os.makedev(*_TUN))
    Path("/dev/net/tun").chmod(0o666)
    resolv_conf = Path("/etc/resolv.conf")
    content = resolv_conf.read_bytes() if resolv_conf.exists() else b""
    for folder in ("/run", "/etc/ssh", "/var/log"):
        _mount_tmpfs(folder)
    # sshd shows the user an error if this file is missing.
    Path("/var/log/lastlog").touch()
    Path("/run/sshd").mkdir(mode=0o755)
    paths.PRIVATE.mkdir(mode=0o755)
    paths.RESOLV_CONF.write_bytes(content)
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620,gid=5", "devpts", "/dev/pts")
    _replace_accounts()


def _mount_tmpfs(folder: str | Path) -> None:
    mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder)


def _replace_accounts() -> None:
    entries = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")]
    _replace_file("passwd", [_ROOT_ENTRY, *entries], 0o644)
    _replace_file("shadow", [_SHADOW_ENTRY], 0o600)


def _replace_file(name: str, lines: list[str], mode: int) -> None:
    path = paths.PRIVATE / name
    path.touch(mode=mode)
    path.write_text("".join(f"{line}\n" for line in lines))
    mount("--bind", path, Path("/etc", name))
