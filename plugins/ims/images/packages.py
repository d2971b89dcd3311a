"""Which packages an image root holds, read from the databases of dpkg and rpm without changing them."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ims.images.root import resolve_inside

log = logging.getLogger(__name__)

DPKG = "var/lib/dpkg/status"
RPM = ("usr/lib/sysimage/rpm", "var/lib/rpm")

Packages = dict[str, str]
"""Versions by package and architecture; versions that are installed side by side are separated by a comma."""


def installed(root: Path) -> Packages:
    """All packages of an image root; none where there is no package manager."""
    versions = defaultdict(set)
    for name, version in [*_dpkg(root), *_rpm(root)]:
        versions[name].add(version)
    return {name: ", ".join(sorted(versions[name])) for name in sorted(versions)}


def _dpkg(root: Path) -> Iterator[tuple[str, str]]:
    status = resolve_inside(root, DPKG)
    if status is None:
        return
    for paragraph in status.read_text(errors="replace").split("\n\n"):
        # Lines of a field that goes on start with a space.
        lines = [line.partition(": ") for line in paragraph.splitlines() if not line.startswith(" ")]
        fields = {name: value for name, _, value in lines}
        if fields.get("Status", "").endswith(" installed"):
            yield f"{fields['Package']}:{fields['Architecture']}", fields["Version"]


def _rpm(root: Path) -> Iterator[tuple[str, str]]:
    folder = next((found for name in RPM if (found := resolve_inside(root, name)) and any(found.iterdir())), None)
    if folder is None:
        return
    # SQLite has to write even to read: rpm gets a copy.
    with tempfile.TemporaryDirectory() as copy:
        for file in folder.iterdir():
            if file.is_file() and not file.is_symlink():
                shutil.copy(file, copy)
        form = r"%{NAME}.%{ARCH}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\n"
        query = ["rpm", "--dbpath", copy, "--query", "--all", "--queryformat", form]
        done = subprocess.run(query, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        log.warning("the image's rpm database cannot be read: %s", done.stderr.strip())
        return
    for line in done.stdout.splitlines():
        name, _, version = line.partition("\t")
        if not name.startswith("gpg-pubkey."):
            yield name, version
