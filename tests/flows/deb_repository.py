"""An apt repository of test packages, built by dpkg-deb, with an index in the form of apt-ftparchive."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

SUITE = "tests"
ARCH = "amd64"
_CONTROL = """\
Package: {name}
Version: {version}
Architecture: all
Maintainer: Tests <root@localhost>
{more}Description: a package of the tests
"""


@dataclass(frozen=True)
class Deb:
    """A package with one file."""

    name: str
    version: str = "1.0-1"
    depends: str = ""
    essential: bool = False
    content: str = ""

    def build(self, folder: Path) -> Path:
        """Build the .deb file; returns its path."""
        more = f"Depends: {self.depends}\n" if self.depends else ""
        more += "Essential: yes\n" if self.essential else ""
        with tempfile.TemporaryDirectory() as temporary:
            tree = Path(temporary)
            (tree / "DEBIAN").mkdir(mode=0o755)
            (tree / "DEBIAN/control").write_text(_CONTROL.format(name=self.name, version=self.version, more=more))
            (tree / "usr/share").mkdir(parents=True)
            (tree / "usr/share" / self.name).write_text(self.content or f"{self.name} {self.version}\n")
            package = folder / f"{self.name}_{self.version.replace(':', '%3a')}_all.deb"
            command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(package)]
            subprocess.run(command, check=True, capture_output=True, env={"SOURCE_DATE_EPOCH": "1", "PATH": "/usr/bin"})
        return package


def write_repository(folder: Path, packages: Iterable[Deb]) -> None:
    """Build the packages and the indexes of a suite below `folder`, and replace those of an earlier call."""
    pool, suite = folder / "pool", folder / "dists" / SUITE
    binary = suite / "main" / f"binary-{ARCH}"
    before = (suite / "InRelease").stat().st_mtime if (suite / "InRelease").exists() else 0.0
    for path in (pool, binary):
        path.mkdir(parents=True, exist_ok=True)
    for old in pool.iterdir():
        old.unlink()
    stanzas = [_stanza(package.build(pool), folder) for package in packages]
    index = "\n".join(stanzas).encode()
    (binary / "Packages").write_bytes(index)
    (binary / "Packages.gz").write_bytes(gzip.compress(index, mtime=0))
    now = format_datetime(datetime.now(UTC), usegmt=True)
    sums = "".join(
        f" {_sha256(path)} {path.stat().st_size} {path.relative_to(suite)}\n" for path in sorted(binary.iterdir())
    )
    head = f"Suite: {SUITE}\nCodename: {SUITE}\nDate: {now}\nArchitectures: {ARCH}\nComponents: main\n"
    for name in ("Release", "InRelease"):
        (suite / name).write_text(f"{head}SHA256:\n{sums}")
    at = max(time.time(), before + 1)  # HTTP has no smaller unit than a second to compare publications
    for path in (*binary.iterdir(), suite / "Release", suite / "InRelease"):
        os.utime(path, (at, at))


def _stanza(package: Path, folder: Path) -> str:
    control = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
    place = package.relative_to(folder)
    return f"{control}Filename: {place}\nSize: {package.stat().st_size}\nSHA256: {_sha256(package)}\n"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
