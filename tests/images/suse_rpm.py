"""The package `rpm` of an image like SUSE's: its rpm keeps the package database in the format ndb.

The package on PyPI has this rpm without its second program, rpmdb. A script stands in for `rpmdb --rebuilddb`: it
installs all packages of the old database into the new one, with the rpm of the image.
"""

from __future__ import annotations

from pathlib import Path

from tests.flows.rpm_repository import Package
from tests.images.rpm_databases import rpm_with_ndb
from tests.running import quietly

DATABASE = "usr/lib/sysimage/rpm/Packages.db"
_MACROS = b"""\
%_dbpath /usr/lib/sysimage/rpm
%_db_backend ndb
%_rpmlock_path %{_dbpath}/.rpm.lock
%_query_all_fmt %%{name}-%%{version}-%%{release}.%%{arch}
"""
# kiwi asks for the macros, and has the database moved from %_dbpath to %_dbpath_rebuild. A package file for --justdb
# consists of a lead, a signature header that is empty, and the header.
_RPMDB = rb"""#!/bin/sh
set -e
[ "$*" = --rebuilddb ] || exec /usr/bin/rpm "$@"
old=$(/usr/bin/rpm -E %_dbpath)
new=$(/usr/bin/rpm -E "%{?_dbpath_rebuild}%{!?_dbpath_rebuild:%_dbpath}")
work=$(mktemp -d)
for number in $(/usr/bin/rpm -qa --qf "%{DBINSTANCE} "); do
    {
        printf "\355\253\356\333\003\000\000\000\000\001package"
        head -c 59 /dev/zero
        printf "\000\001\000\005"
        head -c 16 /dev/zero
        printf "\216\255\350\001\000\000\000\000\000\000\000\001\000\000\000\020"
        printf "\000\000\000\076\000\000\000\007\000\000\000\000\000\000\000\020"
        printf "\000\000\000\076\000\000\000\007\377\377\377\360\000\000\000\020"
        printf "\216\255\350\001\000\000\000\000"
        /usr/bin/rpm -q --querybynumber "$number" --qf "%{HEADERIMMUTABLE:base64}" | base64 -d
    } > "$work/$number.rpm"
done
mkdir "$work/db"
/usr/bin/rpm --dbpath "$work/db" --install --justdb --nodeps --noscripts --notriggers --nosignature --nodigest \
    --ignorearch --ignoreos --ignoresize "$work"/*.rpm
rm -rf "$old" "$new"
mkdir -p "$(dirname "$new")"
mv "$work/db" "$new"
rm -r "$work"
"""


def suse_rpm() -> Package:
    """The package, with the libraries of rpm."""
    rpm = rpm_with_ndb()
    libraries = [Path(word) for word in quietly(["ldd", str(rpm)]).split() if word.startswith("/")]
    programs: dict[str, bytes | Path] = {"/usr/bin/rpm": rpm, "/usr/bin/rpmdb": _RPMDB}
    programs |= {str(path) if path.is_relative_to("/usr") else f"/usr{path}": path.resolve() for path in libraries}
    return Package(
        "rpm",
        version="4.16.1.3",
        programs=programs,
        files={"/usr/lib/rpm/macros": _MACROS, "/usr/lib/rpm/rpmrc": b""},
        links={"/usr/local/lib/rpm": "../../lib/rpm"},
        requires=("busybox",),
    )
