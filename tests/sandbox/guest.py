"""Tries the sandbox on the kernel that runs it: `python -m tests.sandbox.guest FOLDER` prints a report as JSON.

A test boots a kernel and starts this program on it.
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from ims.doctor import machine
from ims.settings import Settings
from tests.sandbox.scripts import run_in_box

SQUASHFS: tuple[Literal["kernel", "unpack"], ...] = ("kernel", "unpack")
ATTACKS = {
    "files of the host": "cat {secret}",
    "root of the first process": "cat /proc/1/root{secret}",
    "unmount the programs": "umount /usr || umount -l /usr",
    "make the programs writable": "mount -o remount,rw /usr || mount -o remount,bind,rw /usr",
    "user namespaces": "unshare -U true",
    "a new proc": "mkdir m && mount -t proc proc m",
    "devices": "mknod disk b 254 0",
    "kernel parameters": "echo 1 > /proc/sys/vm/drop_caches",
}
OWNERS = "touch a; chown 12:34 a; cp /usr/bin/true b; setcap cap_net_raw+ep b; stat -c %u:%g a; getcap b"


def report(folder: Path) -> dict[str, Any]:
    """How images are read, what a box does with owners, and the exit code of each attack in it."""
    secret, box = folder / "secret", folder / "box"
    secret.write_text("secret")
    box.mkdir()
    readings = {name: asdict(machine.squashfs(Settings(home=folder, squashfs=name))) for name in SQUASHFS}
    # One box for all: in a virtual machine, it takes seconds to make one.
    attacks = [f"({attack.replace('{secret}', str(secret))}) > /dev/null 2>&1; echo $?" for attack in ATTACKS.values()]
    _, output = run_in_box(box, "\n".join([OWNERS, *attacks]), seconds=300)
    owner, capability, *codes = output.splitlines()
    status = (box / "a").stat()
    return {
        "kernel": platform.release(),
        "squashfs": readings,
        "inside": [owner, capability],
        "on_the_disk": [status.st_uid, status.st_gid],
        "attacks": dict(zip(ATTACKS, map(int, codes), strict=True)),
    }


if __name__ == "__main__":
    print(json.dumps(report(Path(sys.argv[1]))))
