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
from ims.sandbox.limits import CONTROL_GROUPS, controllers
from ims.sandbox.overlay import LOWER, Layers
from ims.sandbox.view import View
from ims.settings import Settings

OLDEST_KERNEL = (6, 1)
IDMAPPED_OVERLAY = (5, 19)
PROGRAMS = (
    *("setpriv", "mksquashfs", "unsquashfs", "kiwi-ng", "sshd", "ssh-keygen"),
    *("rpm", "rpmbuild", "dpkg-deb", "dnf", "zypper", "apt-get", "nft", "pasta"),
)
SAMPLE = Path(__file__).parent
"""A small folder, to be packed as a squashfs."""
_SANDBOX = "Use root, a kernel from 6.1 on, and a disk with ext4, xfs or btrfs"
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


def squashfs(settings: Settings) -> Finding:
    """How steps read an image: they mount its squashfs, or copy or unpack it. Makes a small one and reads it."""
    if settings.squashfs == "kernel" and (found := _file_system("squashfs")).status != "ok":
        return found
    with TemporaryDirectory(dir=_place(settings)) as name:
        folder = Path(name)
        rootfs, changes = folder / "rootfs", folder / "changes"
        subprocess.run(["mksquashfs", SAMPLE, rootfs, "-quiet", "-no-progress"], check=True, stdout=subprocess.DEVNULL)
        image = Layers(rootfs, changes, folder / "image-root", unpack=settings.squashfs == "unpack")
        if (reason := _run_in_sandbox(View((folder,), image=image))) is not None:
            return missing(reason, f"{_SANDBOX}; IMS_SQUASHFS=unpack needs no squashfs in the kernel")
        is_mounted = not any((changes / LOWER).iterdir())
    if settings.squashfs == "unpack":
        return ok("unpacked in a sandbox, because of IMS_SQUASHFS: the kernel reads no squashfs of a stranger")
    if is_mounted:
        return ok("mounted, because of IMS_SQUASHFS: the kernel reads what strangers made")
    return ok("mounted and copied: this kernel, older than 6.2, cannot map owners in a squashfs")


def loop_devices(settings: Settings) -> Finding:
    """Whether files can be mounted."""
    if Path("/dev/loop-control").exists():
        return ok("/dev/loop-control")
    if settings.squashfs == "unpack":
        return ok("none, and none needed, because of IMS_SQUASHFS")
    return missing("there is no /dev/loop-control", "Run modprobe loop")


def sandbox(settings: Settings) -> Finding:
    """Whether a program runs in the sandbox of builds, in a folder on the disk of the workspaces."""
    with TemporaryDirectory(dir=_place(settings)) as folder:
        reason = _run_in_sandbox(View((Path(folder),)))
    return ok("a program ran in it") if reason is None else missing(reason, _SANDBOX)


def _place(settings: Settings) -> Path:
    """The folder of the workspaces, or the one that it will be made in."""
    return next(path for path in (settings.workspaces, *settings.workspaces.parents) if path.is_dir())


def _run_in_sandbox(view: View) -> str | None:
    """Run a program in a sandbox; returns why that failed, or None."""
    command = box.command(view, ["true"])
    done = subprocess.run(command, cwd=view.writable[0], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"])[-1]


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
