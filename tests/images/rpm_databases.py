"""Package databases of rpm in all formats, made by the programs that own the formats."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

FORMATS = {"sqlite": "rpmdb.sqlite", "ndb": "Packages.db", "bdb": "Packages"}
"""The file of each format."""
_SPEC = """\
Name: sysroot
Version: 1
Release: 1
Summary: s
License: MIT
BuildArch: noarch
%description
d
%package -n openssl
Epoch: 2
Version: 3.1.4
Release: 150600.5.7
Summary: s
%description -n openssl
d
%package -n munge
Version: 0.5.15
Release: 150600.1
Summary: s
%description -n munge
d
%files
%files -n openssl
%files -n munge
"""
NAMES = {"munge.noarch": "0.5.15-150600.1", "openssl.noarch": "2:3.1.4-150600.5.7", "sysroot.noarch": "1-1"}
"""The packages of `build_packages`, as `installed_packages` gives them."""


def rpm_with_ndb() -> Path:
    """An rpm like SUSE's, which has the format ndb."""
    spec = find_spec("rpm_inspector_rpm")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / "rpm"


def build_packages(folder: Path) -> list[Path]:
    """Build three packages without files."""
    spec = folder / "packages.spec"
    spec.write_text(_SPEC)
    subprocess.run(["rpmbuild", "-bb", "--quiet", "-D", f"_topdir {folder}", spec], check=True, capture_output=True)
    return sorted(folder.glob("RPMS/*/*.rpm"))


def make_database(folder: Path, kind: str, packages: Sequence[Path]) -> Path:
    """Make a database with packages; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "bdb":
        return _load_bdb(make_database(folder, "sqlite", packages), folder / FORMATS[kind])
    program, environment = ("rpm", {}) if kind == "sqlite" else (str(rpm_with_ndb()), {"RPM_CONFIGDIR": "/usr/lib/rpm"})
    options = ("--define", f"_db_backend {kind}", "--justdb", "--nodeps", "--nosignature")
    command = [program, "--dbpath", str(folder), "--install", *options, *map(str, packages)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    return folder / FORMATS[kind]


def _load_bdb(sqlite: Path, target: Path) -> Path:
    """Make a hash of Berkeley DB from a database of the format sqlite, which is removed.

    rpm stores the same in both: the header of a package by its number. The number 0 has the highest one.
    """
    with closing(sqlite3.connect(sqlite)) as database:
        rows = database.execute("SELECT hnum, blob FROM Packages ORDER BY hnum").fetchall()
    pairs = [(0, rows[-1][0].to_bytes(4, "little")), *rows]
    lines = [f" {text.hex()}" for number, value in pairs for text in (number.to_bytes(4, "little"), value)]
    dump = "\n".join(["VERSION=3", "format=bytevalue", "type=hash", "HEADER=END", *lines, "DATA=END", ""])
    subprocess.run(["db5.3_load", target], input=dump, text=True, check=True)
    for path in sqlite.parent.glob(f"{sqlite.name}*"):
        path.unlink()
    return target
