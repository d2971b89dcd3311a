"""A small image that is built quickly: busybox, and what the tests of shells need."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ims.shell import tools

BROUGHT = ("/usr/sbin/setcap", "/usr/sbin/getcap")
"""Programs of the host that the image has in addition to busybox."""


def write_root(root: Path) -> Path:
    """Write an image root with busybox. It lacks /run and /sys, and its resolv.conf is a link to nothing."""
    for name in ("bin", "dev", "etc", "proc", "root", "tmp", "usr/bin", "usr/sbin"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    subprocess.run(["chroot", root, "/bin/busybox", "--install", "-s", "/bin"], check=True)
    for program in map(Path, BROUGHT):
        for file in (program, *tools.libraries(program)):
            (root / file.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / file.relative_to("/"))
    (root / "tmp").chmod(0o1777)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/ash\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    (root / "etc" / "motd").write_text("before\n")
    (root / "etc" / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (root / "root" / ".ash_history").write_text("of the image\n")
    return root


def pack(root: Path, rootfs: Path) -> Path:
    """Pack a root as a squashfs."""
    command = [
        "mksquashfs",
        str(root),
        str(rootfs),
        "-quiet",
        "-no-progress",
        "-comp",
        "zstd",
        "-Xcompression-level",
        "1",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return rootfs
