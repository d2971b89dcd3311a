"""The sandbox and spliced images on the oldest kernel that is supported: that of Debian 12, in a virtual machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.flows.boot import run_on_kernel
from tests.flows.debian import DebianImage
from tests.images.squashfs.guest import digest
from tests.images.squashfs.large import add_to_small_tree, change_small_tree, moved_apart, write_small_tree
from tests.images.squashfs.overlays import Snapshot, changed, pack, spliced
from tests.sandbox.guest import ATTACKS

ROOT = Path(__file__).parents[2]


def test_sandbox(debian: DebianImage, tmp_path: Path) -> None:
    """Attacks fail, files have their true owners, and images are read, although it cannot map owners in a squashfs."""
    found = run(debian, tmp_path, "tests.sandbox.guest", Path("/media"))
    assert found["kernel"].startswith("6.1.")
    assert found["attacks"].keys() == ATTACKS.keys()
    assert 0 not in found["attacks"].values()
    assert found["inside"] == ["12:34", "b cap_net_raw=ep"]
    assert found["on_the_disk"] == [12, 34]
    values = {name: (finding["status"], finding["value"]) for name, finding in found["squashfs"].items()}
    assert values == {
        "kernel": ("ok", "mounted and copied: this kernel, older than 6.2, cannot map owners in a squashfs"),
        "unpack": ("ok", "unpacked in a sandbox, because of IMS_SQUASHFS: the kernel reads no squashfs of a stranger"),
    }


def test_spliced_images(debian: DebianImage, tmp_path: Path) -> None:
    """The kernel mounts them and reads every file, whatever compressed them and wherever it is."""
    images = {path: shown for name in COMPRESSORS for path, shown in [make_spliced(tmp_path, name)]}
    found = run(debian, tmp_path, "tests.images.squashfs.guest", *images)
    assert found.pop("kernel").startswith("6.1.")
    assert found == {path.name: digest(shown) for path, shown in images.items()}


COMPRESSORS = {
    "zstd": ("-comp", "zstd"),
    "gzip": ("-comp", "gzip", "-no-exports", "-noI"),
    "xz": ("-comp", "xz", "-Xbcj", "x86", "-b", "1M", "-Xdict-size", "64K"),
}


def make_spliced(folder: Path, name: str) -> tuple[Path, Snapshot]:
    """A small image that was changed twice; what follows its first 4 GiB came later. Returns also what is in it."""
    folder /= f"{name}-folder"
    base = pack(write_small_tree(folder / "tree"), folder / "base", compressor=COMPRESSORS[name])
    current, shown = moved_apart(base, folder / "apart"), Snapshot()
    for number, change in enumerate([change_small_tree, add_to_small_tree]):
        step = folder / str(number)
        step.mkdir()
        layer, opaque, shown = changed(current, step, change)
        current = spliced(current, layer, step / f"{name}{number}", opaque)
    return current, shown


def run(debian: DebianImage, folder: Path, program: str, *arguments: Path) -> dict[str, Any]:
    """Run a program on the kernel of an image; returns the JSON that it prints."""
    variables = ["HOME=/media", "TMPDIR=/media", f"PYTHONPATH={ROOT / 'plugins'}:{ROOT}"]
    command = ["env", *variables, sys.executable, "-m", program, *map(str, arguments)]
    output = run_on_kernel(debian.files["kernel"], debian.files["rootfs"], command, folder)
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found
