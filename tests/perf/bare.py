"""The baseline: the same recipe, built by kiwi-ng, packed by mksquashfs and uploaded without a workflow.

It runs as a program inside the namespaces that a build of Debian packages needs on a shared machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import boto3

from ims.builder.host import isolate
from ims.builder.squashfs import squashfs_command
from ims.workspace import Workspace


def build(workspace: Path, bucket: str) -> None:
    """Build the rendered recipe in `recipe/`, pack its image root and upload kernel, initrd and rootfs."""
    isolate("apt", Workspace(workspace))
    root, cache = workspace / "image-root", workspace / "cache"
    environment = {"PATH": os.environ["PATH"], "HOME": str(workspace), "LANG": "C.UTF-8"}
    command: list[str | Path] = [
        *(Path(sys.executable).with_name("kiwi-ng"), "--temp-dir", workspace, "--shared-cache-dir", cache),
        *("--setenv", "INITRD=No", "system", "prepare", "--description", workspace / "recipe", "--root", root),
    ]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["chroot", root, "/image/images.sh"], env=environment, check=True)
    subprocess.run(squashfs_command(root, workspace / "rootfs"), check=True, stdout=subprocess.DEVNULL)
    client = boto3.client("s3")
    for name, path in {
        "rootfs": workspace / "rootfs",
        "kernel": (root / "boot/vmlinuz").resolve(),
        "initrd": (root / "boot/initrd").resolve(),
    }.items():
        client.upload_file(str(path), bucket, f"bare/{name}")


if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2])
