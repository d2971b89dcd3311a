"""Boots an image in QEMU to its login prompt, or only its kernel: to mount its rootfs, or to run a program."""

import os
import re
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path

WRITABLE = "systemd.volatile=overlay"
"""Puts an overlay in memory over the root; dracut's rd.live.overlay.overlayfs works for root=live: only."""
FAIL_FAST = "panic=-1 rd.shell=0 rd.emergency=reboot"
"""End the machine (it runs with -no-reboot) instead of waiting at an emergency shell."""

_BEGIN, _END = "IMAGE-MARKER-BEGIN", "IMAGE-MARKER-END"

_INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /dev /image
busybox mount -t devtmpfs none /dev
for module in $(busybox cat /modules/order); do busybox insmod "/modules/$module" || echo "insmod $module failed"; done
tries=50
until [ -b /dev/vda ] || [ $((tries -= 1)) = 0 ]; do busybox usleep 100000; done
"""
_MARKER_INIT = f"""{_INIT}
busybox mount -t squashfs -o ro /dev/vda /image && echo {_BEGIN} && busybox cat /image/etc/os-release && echo {_END}
busybox poweroff -f
"""
_MARKER_MODULES = ("virtio_pci", "virtio_blk", "squashfs")

# The host's root is read-only. Programs can write to /run and to /media, a disk with ext4.
_HOST_INIT = f"""{_INIT}
busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 host /image
busybox mount -t tmpfs tmpfs /image/run
busybox mount -t ext4 /dev/vda /image/media
busybox mount --move /dev /image/dev
busybox mount -t proc proc /image/proc
busybox mount -t sysfs sysfs /image/sys
exec busybox switch_root /image /bin/sh -c 'export PATH=/usr/bin:/usr/sbin; echo {_BEGIN}; {{command}} && echo {_END}'
"""
_HOST_MODULES = (*_MARKER_MODULES, "9pnet_virtio", "9p", "crc32c_generic", "ext4", "overlay", "loop")
_DISK_MIB = 256


class BootError(Exception):
    """The machine stopped, or the time was over, before the expected text was on the console."""

    def __init__(self, reason: str, console: str) -> None:
        super().__init__(f"{reason}; the console ended with:\n{console[-4000:]}")


def boot(
    kernel: Path,
    initrd: Path,
    rootfs: Path,
    *,
    until: str,
    timeout: float = 300,
    append: str = "",
    memory_mib: int = 1536,
) -> str:
    """Boot a rootfs with its initrd until a text is on the serial console; returns the console so far."""
    cmdline = f"root=/dev/vda rootfstype=squashfs {WRITABLE} {FAIL_FAST} console=ttyS0 {append}".strip()
    return run_until(_qemu(kernel, initrd, rootfs, cmdline, memory_mib), until, timeout)


def boot_marker(kernel: Path, rootfs: Path, workdir: Path, *, timeout: float = 120) -> str:
    """Boot a kernel with a small initrd that only mounts the rootfs; returns /etc/os-release of the rootfs."""
    initrd = _small_initrd(kernel, rootfs, workdir, _MARKER_INIT, _MARKER_MODULES)
    console = run_until(_qemu(kernel, initrd, rootfs, f"console=ttyS0 quiet {FAIL_FAST}", 512), _END, timeout)
    return _between_markers(console)


def run_on_kernel(kernel: Path, rootfs: Path, command: list[str], workdir: Path, *, timeout: float = 600) -> str:
    """Boot a kernel, whose modules are in `rootfs`, and run a program of this machine on it; returns its output.

    The program sees the files of this machine and can write to /media and /run, which are empty. Raises BootError if it
    fails.
    """
    init = _HOST_INIT.replace("{command}", shlex.join(command).replace("'", "'\\''"))
    initrd, disk = _small_initrd(kernel, rootfs, workdir, init, _HOST_MODULES), workdir / "disk"
    with disk.open("wb") as file:
        file.truncate(_DISK_MIB * 1024**2)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
    machine = _qemu(kernel, initrd, disk, f"console=ttyS0 quiet {FAIL_FAST}", 1024, "off")
    machine += ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
    return _between_markers(run_until(machine, f"\n{_END}", timeout))


def _between_markers(console: str) -> str:
    return console.partition(_BEGIN)[2].partition(_END)[0].strip()


def _qemu(kernel: Path, initrd: Path, disk: Path, cmdline: str, memory_mib: int, readonly: str = "on") -> list[str]:
    # TCG, because guests may hang even if /dev/kvm can be opened; one processor, because in TCG a second one more than
    # doubles the processor time of a boot. pdeathsig: no machine outlives the test run.
    # fmt: off
    return [
        "setpriv", "--pdeathsig=KILL", "--",
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", str(memory_mib),
        "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
        "-kernel", str(kernel), "-initrd", str(initrd), "-append", cmdline,
        "-drive", f"file={str(disk).replace(',', ',,')},if=virtio,format=raw,readonly={readonly}",
    ]
    # fmt: on


def run_until(command: list[str], until: str, timeout: float) -> str:
    """Run a virtual machine until its console shows `until`, then kill it; returns the console so far.

    Raises BootError if the machine ends before, or if `timeout` seconds pass.
    """
    deadline = time.monotonic() + timeout
    console = bytearray()
    wanted = until.encode()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT) as machine:
        try:
            assert machine.stdout is not None
            while wanted not in console:
                ready, _, _ = select.select([machine.stdout], [], [], max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise BootError(f"{until!r} not seen within {timeout:g} s", _text(console))
                if not (chunk := os.read(machine.stdout.fileno(), 1 << 16)):
                    raise BootError(f"the machine ended before {until!r}", _text(console))
                console += chunk
        finally:
            machine.kill()
    return _text(console)


def _text(console: bytearray) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", console.decode(errors="replace"))


def _small_initrd(kernel: Path, rootfs: Path, workdir: Path, init: str, modules: tuple[str, ...]) -> Path:
    """An initrd with busybox, an init script, and the kernel modules that it loads."""
    tree, initrd = workdir / "initrd.tree", workdir / "initrd.small"
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", tree / "bin/busybox")
    (tree / "init").write_text(init)
    (tree / "init").chmod(0o755)
    (tree / "modules").mkdir()
    order = _copy_modules(kernel, rootfs, workdir, tree / "modules", modules)
    (tree / "modules/order").write_text("\n".join(order))
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with initrd.open("wb") as archive:
        pack = ["cpio", "--create", "--format=newc", "--quiet"]
        subprocess.run(pack, cwd=tree, input=names.encode(), stdout=archive, check=True)
    return initrd


def _copy_modules(kernel: Path, rootfs: Path, workdir: Path, target: Path, names: tuple[str, ...]) -> list[str]:
    """Copy modules and what they need; returns their file names in the order of loading."""
    folder = f"usr/lib/modules/{_kernel_version(kernel)}"
    index = _extract(rootfs, [f"{folder}/modules.dep"], workdir / "modules.index")[0]
    needs = {
        Path(module).stem: [module, *others.split()]
        for module, others in (line.split(":", 1) for line in index.read_text().splitlines())
    }
    # A line of modules.dep lists a module, then its dependencies, the deepest last. Other modules are built in.
    wanted = (reversed(needs.get(name, [])) for name in names)
    order = list(dict.fromkeys(path for paths in wanted for path in paths))
    if order:
        for path in _extract(rootfs, [f"{folder}/{path}" for path in order], workdir / "modules.files"):
            shutil.copy(path, target)
    return [Path(path).name for path in order]


def _extract(rootfs: Path, names: list[str], target: Path) -> list[Path]:
    shutil.rmtree(target, ignore_errors=True)
    unpack = ["unsquashfs", "-quiet", "-no-progress", "-no-xattrs", "-dest", str(target), str(rootfs), *names]
    subprocess.run(unpack, check=True, stdout=subprocess.DEVNULL)
    return [target / name for name in names]


def _kernel_version(kernel: Path) -> str:
    """Return the release in the header of a bzImage (Documentation/arch/x86/boot.rst, kernel_version)."""
    image = kernel.read_bytes()[: 1 << 16]
    start = 0x200 + int.from_bytes(image[0x20E:0x210], "little")
    return image[start : image.index(b"\0", start)].split()[0].decode()
