"""The sandbox on the oldest kernel that it supports: that of Debian 12, in a virtual machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.flows.boot import run_on_kernel
from tests.flows.debian import DebianImage
from tests.sandbox.guest import ATTACKS

ROOT = Path(__file__).parents[2]


def test_sandbox(debian: DebianImage, tmp_path: Path) -> None:
    """Attacks fail, files have their true owners, and images are read, although it cannot map owners in a squashfs."""
    variables = ["HOME=/media", "TMPDIR=/media", f"PYTHONPATH={ROOT / 'plugins'}:{ROOT}"]
    program = ["env", *variables, sys.executable, "-m", "tests.sandbox.guest", "/media"]
    output = run_on_kernel(debian.files["kernel"], debian.files["rootfs"], program, tmp_path)
    found = json.loads(output.splitlines()[-1])
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
