"""The arguments of bubblewrap that every sandbox shares: namespaces, capabilities, seccomp, /proc and /dev.

The processes in it are root, with few capabilities. They have a PID namespace of their own, and therefore a /proc
without the host's processes.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ims.errors import ConfigurationError

BWRAP = "bwrap"
# The capabilities that package managers need. DAC_READ_SEARCH is missing because it opens any file of a file system by
# handle; MKNOD and SYS_ADMIN are missing, too. PAM refuses to change accounts without AUDIT_WRITE.
CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"),
    *("KILL", "SETFCAP", "SETGID", "SETUID", "SYS_CHROOT"),
)
# In /proc. bubblewrap leaves some files writable for the real root, who could take over the host through core_pattern.
_READ_ONLY = ("acpi", "bus", "fs", "irq", "scsi", "sys", "sysrq-trigger")
_MASKED = ("kcore", "keys", "kmsg", "sched_debug", "timer_list")


def check_installed() -> None:
    """Raises ConfigurationError if bubblewrap is missing."""
    if shutil.which(BWRAP) is None:
        raise ConfigurationError(f"there is no {BWRAP}", "Install bubblewrap")


def isolation(name: str, folder: str = "/") -> list[str]:
    """The arguments for capabilities and namespaces.

    The host name in the sandbox is derived from `name`. The program starts in `folder`.
    """
    hostname = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:63] or "image"
    return [
        *("--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", hostname, "--chdir", folder),
        *("--cap-drop", "ALL"),
        *(part for capability in CAPABILITIES for part in ("--cap-add", f"CAP_{capability}")),
    ]


def private_proc(root: str = "") -> list[str]:
    """The arguments for /proc below `root`: the processes of the sandbox, and nothing that changes the kernel."""
    covered = [(f"/proc/{name}", name) for name in _READ_ONLY] + [("/dev/null", name) for name in _MASKED]
    existing = [(source, name) for source, name in covered if Path("/proc", name).exists()]
    return [
        *("--proc", f"{root}/proc"),
        *(part for source, name in existing for part in ("--ro-bind", source, f"{root}/proc/{name}")),
    ]


def private_dev(root: str = "") -> list[str]:
    """The arguments for /dev below `root`, without the host's devices."""
    return ["--dev", f"{root}/dev"]
