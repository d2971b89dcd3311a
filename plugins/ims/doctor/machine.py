"""Checks of this machine, where the steps of the runtime `local` run."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from ims.doctor.finding import Finding, missing, ok, warning
from ims.sandbox import box
from ims.sandbox.bubblewrap import BWRAP
from ims.sandbox.limits import CONTROL_GROUPS, controllers
from ims.sandbox.view import View
from ims.settings import Settings

OLDEST_KERNEL = (6, 1)
IDMAPPED_OVERLAY = (5, 19)
PROGRAMS = (
    *(BWRAP, "setpriv", "mksquashfs", "unsquashfs", "kiwi-ng", "sshd", "ssh-keygen"),
    *("rpm", "rpmbuild", "dpkg-deb", "dnf", "zypper", "apt-get", "nft", "pasta"),
)
_SETUP = "Run scripts/setup, or install the Debian packages of scripts/packages.txt"


def kernel(_settings: Settings) -> Finding:
    """Whether the kernel is as new as that of Debian 12."""
    release = platform.release()
    if kernel_version(release) >= OLDEST_KERNEL:
        return ok(release)
    return missing(f"{release} is older than 6.1", "Use the kernel of Debian 12 or a newer one")


def kernel_version(release: str) -> tuple[int, ...]:
    """The first two numbers of a kernel release."""
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])


def user_namespaces(_settings: Settings) -> Finding:
    """Whether the kernel lets processes make user namespaces."""
    limit = _number(Path("/proc/sys/user/max_user_namespaces"))
    if not limit:
        return missing("disabled", "Run sysctl user.max_user_namespaces=10000")
    return ok(f"up to {limit}")


def idmapped_mounts(_settings: Settings) -> Finding:
    """Whether the kernel maps owners in mounts of the file systems that sandboxes use."""
    if kernel_version(platform.release()) >= IDMAPPED_OVERLAY:
        return ok("supported")
    return missing("not below overlays", "Use a kernel from 5.19 on")


def overlay(_settings: Settings) -> Finding:
    """Whether overlays can be mounted: package roots and images are their lower layers."""
    return _file_system("overlay")


def squashfs(_settings: Settings) -> Finding:
    """Whether squashfs can be mounted: an image is one."""
    return _file_system("squashfs")


def loop_devices(_settings: Settings) -> Finding:
    """Whether files can be mounted."""
    if Path("/dev/loop-control").exists():
        return ok("/dev/loop-control")
    return missing("there is no /dev/loop-control", "Run modprobe loop")


def sandbox(settings: Settings) -> Finding:
    """Whether a program runs in the sandbox of builds, in a folder on the disk of the workspaces."""
    place = next(path for path in (settings.workspaces, *settings.workspaces.parents) if path.is_dir())
    with TemporaryDirectory(dir=place) as folder:
        command = box.command(View((Path(folder),)), ["true"])
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"])[-1]
        return missing(reason, "Use root, a kernel from 6.1 on, and a disk with ext4, xfs or btrfs")
    return ok("a program ran in it")


def tun(_settings: Settings) -> Finding:
    """Whether shells and scripts can have a network of their own."""
    if Path("/dev/net/tun").exists():
        return ok("/dev/net/tun")
    return missing("there is no /dev/net/tun, which the network of shells and scripts needs", "Run modprobe tun")


def cgroups(_settings: Settings, folder: Path = CONTROL_GROUPS) -> Finding:
    """What limits the memory and the processes of a sandbox: makes the control groups that a sandbox gets."""
    found = controllers(folder)
    version = "none" if found.version is None else f"v{found.version}: {', '.join(found.names)}"
    if "memory" not in found.names:
        value = f"{version}; rlimits bound the processes of a sandbox, and nothing its memory"
        return warning(value, "Enable the controllers memory and pids, and let root make control groups")
    if "pids" not in found.names:
        return ok(f"{version}; rlimits bound the processes of a sandbox")
    return ok(version)


def programs(_settings: Settings) -> Finding:
    """Whether the programs exist that steps start."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    lacking = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if lacking:
        return missing(f"there is no {', '.join(lacking)}", _SETUP)
    return ok(f"all {len(PROGRAMS)} of them")


def _file_system(name: str) -> Finding:
    known = Path("/proc/filesystems").read_text().split()
    if name in known or any(f"/{name}.ko" in line for line in _modules()):
        return ok("supported")
    return missing("the kernel does not know it", f"Run modprobe {name}")


def _modules() -> list[str]:
    """The modules that the kernel can load or contains."""
    folder = Path("/lib/modules", platform.release())
    files = [folder / "modules.dep", folder / "modules.builtin"]
    return [line for file in files if file.exists() for line in file.read_text().splitlines()]


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
