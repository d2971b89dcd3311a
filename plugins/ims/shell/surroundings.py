"""What the step covers of the machine, in its own mount namespace: sshd leaves no trace outside of it."""

from __future__ import annotations

from pathlib import Path

from ims.images.overlay import mount
from ims.shell import places

_ROOT_ENTRY = "root:x:0:0:root:/root:/bin/sh"
# root may log in with a key whatever this machine says of its own root.
_SHADOW_ENTRY = "root:*:20000:0:99999:7:::"
_RUN_SIZE = "256m"


def cover() -> None:
    """Give the step /run, pseudo terminals and accounts of its own, and nowhere to log logins to."""
    resolv_conf = Path("/etc/resolv.conf")
    resolving = resolv_conf.read_bytes() if resolv_conf.exists() else b""
    for folder in ("/run", "/etc/ssh", "/var/log"):
        _tmpfs(folder)
    # Without it sshd complains to the user.
    Path("/var/log/lastlog").touch()
    Path("/run/sshd").mkdir(mode=0o755)
    places.PRIVATE.mkdir(mode=0o755)
    places.RESOLV_CONF.write_bytes(resolving)
    places.SHARED_RUN.mkdir()
    _tmpfs(places.SHARED_RUN, f"size={_RUN_SIZE}")
    (places.SHARED_RUN / "lock").mkdir(mode=0o1777)
    (places.SHARED_RUN / "lock").chmod(0o1777)
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620,gid=5", "devpts", "/dev/pts")
    # Without what is mounted in it: control groups, firmware settings, the kernel's debugging.
    places.SYS.mkdir()
    mount("--bind", "-o", "ro", "/sys", places.SYS)
    _own_accounts()


def _tmpfs(folder: str | Path, *options: str) -> None:
    mount("-t", "tmpfs", "-o", ",".join(["mode=0755", *options]), "tmpfs", folder)


def _own_accounts() -> None:
    entries = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")]
    _replace("passwd", [_ROOT_ENTRY, *entries], 0o644)
    _replace("shadow", [_SHADOW_ENTRY], 0o600)


def _replace(name: str, lines: list[str], mode: int) -> None:
    path = places.PRIVATE / name
    path.touch(mode=mode)
    path.write_text("".join(f"{line}\n" for line in lines))
    mount("--bind", path, Path("/etc", name))
