"""Measure how long a customization takes until the prompt and until the image."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from ims.builder.squashfs import squashfs_command
from tests.flows import shells
from tests.flows.artifacts import fetch
from tests.perf.measure import Cost, measured, table
from tests.service import Service
from tests.shell.small_image import pack, write_root
from tests.shell.test_shell import Shell, make_key

SIZES_MB = (50, 500, 2000)
ROUNDS = 3
CHANGE = "echo changed > {root}/etc/motd"


def prompt_table(folder: Path) -> str:
    """Return the time from a rootfs on disk to the end of a first command over SSH, for several sizes of images."""
    folder.mkdir()
    key, rows = make_key(folder, "user"), []
    for size in SIZES_MB:
        rootfs = _image(folder / "root", size)
        seconds = [_seconds_to_prompt(key, rootfs) for _ in range(ROUNDS)]
        rows.append([f"{rootfs.stat().st_size / 1e6:.0f}", f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"])
        shutil.rmtree(folder / "root")
        rootfs.unlink()
    return f"\n### prompt, {ROUNDS} rounds\n\n" + table(["rootfs MB", "median s", "most s"], rows)


def _image(root: Path, size: int) -> Path:
    write_root(root)
    for number in range(size // 5):
        (root / f"usr/{number}").write_bytes(os.urandom(5_000_000))
    return pack(root, root.with_name("rootfs"))


def _seconds_to_prompt(key: Path, rootfs: Path) -> float:
    shell, started = Shell(key, rootfs), time.monotonic()
    shell.start()
    shell.says("true")
    seconds = time.monotonic() - started
    shell.remove()
    return seconds


def one_file_table(service: Service, image: dict[str, Any], folder: Path, creates: dict[str, Cost]) -> str:
    """Compare three ways to change one file: the workflow, by hand, and a new image."""
    folder.mkdir()
    key = shells.make_key(service, folder)
    _flow(service, image, key)  # This caches the rootfs.
    flows = [_flow(service, image, key) for _ in range(ROUNDS)]
    rootfs = fetch(service, image, folder)["rootfs"]
    by_hand = [_by_hand(rootfs) for _ in range(ROUNDS)]
    rows = [
        _row("customize_image, until the prompt", [prompt for prompt, _ in flows]),
        _row("customize_image, from `complete` to the image", [rest for _, rest in flows]),
        _row("unsquashfs, change, mksquashfs", by_hand),
        *(_row(name, [cost]) for name, cost in creates.items()),
    ]
    return f"\n### one file changed, median of {ROUNDS}\n\n" + table(["", "wall s", "CPU s"], rows)


def _row(name: str, costs: list[Cost]) -> list[str]:
    wall, cpu = (statistics.median(getattr(cost, kind) for cost in costs) for kind in ("wall", "cpu"))
    return [name, f"{wall:.1f}", f"{cpu:.1f}"]


def _flow(service: Service, image: dict[str, Any], key: shells.Key) -> tuple[Cost, Cost]:
    with measured() as prompt:
        job = shells.customize(service, image, key, jail=True)
        shells.ssh(job, key, CHANGE.format(root=""))
    with measured() as rest:
        shells.ssh(job, key, "touch /tmp/complete")
        job = service.wait(job["id"])
    assert job["status"] == "success", job["reason"]
    return prompt, rest


def _by_hand(rootfs: Path) -> Cost:
    root, packed = rootfs.with_name("unpacked"), rootfs.with_name("packed")
    with measured() as cost:
        subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-d", root, rootfs], check=True)
        subprocess.run(["sh", "-c", CHANGE.format(root=root)], check=True)
        subprocess.run(squashfs_command(root, packed), check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(root)
    return cost
