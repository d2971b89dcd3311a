"""The baseline: the same recipe, built by kiwi-ng, packed by mksquashfs and uploaded without a workflow.

It runs as a program inside the namespaces that a build of Debian packages needs on a shared machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import boto3

from ims.builder.host import BUNDLE, prepare
from ims.builder.squashfs import squashfs_command


def build(workspace: Path, bucket: str) -> None:
    """Build the rendered recipe in `recipe/`, pack its image root and upload kernel, initrd and rootfs."""
    hide_the_host(workspace / "host")
    prepare("apt")
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


def hide_the_host(folder: Path) -> None:
    """Mount empty folders where a build in the sandbox has its own; `folder` must not exist."""
    certificates, copy = BUNDLE.parent, folder / "certificates"
    shutil.copytree(certificates, copy, symlinks=True)
    subprocess.run(["mount", "--bind", copy, certificates], check=True)
    for name in ("/var/log", "/var/lib/dpkg", "/etc/apt"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", name], check=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2])
