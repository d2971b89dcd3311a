"""The package managers of a session that is not jailed.

Those of this machine install into an image whose package database they can write. Debian's rpm cannot write the formats
ndb and bdb: it would start a second database beside that of the image. In the sessions of such an image, programs of
the image take the place of those of the machine.
"""

from __future__ import annotations

from pathlib import Path

from ims.images.root import UnreadableError, resolve_inside
from ims.images.rpm import FOLDERS, find_databases

PROGRAMS = ("rpm", "zypper", "dnf")
NAME = "package-manager"
"""The name of the script among the tools of sessions."""
SCRIPT = """\
#!/bin/sh
# Runs the rpm, zypper or dnf of the image: that of this machine cannot write the package database of the image.
name=${0##*/}
root=$IMS_IMAGE_ROOT

fail() {
    echo "$name: this machine's $name cannot write the package database of the image. $1" >&2
    exit 1
}

given=
count=$#
while [ "$count" -gt 0 ]; do
    argument=$1
    shift
    count=$((count - 1))
    case $name:$argument in
        *:--root=* | *:--installroot=*) given=${argument#*=} ;;
        *:--root | *:--installroot | zypper:-R | rpm:-r)
            [ "$count" -gt 0 ] || fail "$argument needs a folder"
            given=$1
            shift
            count=$((count - 1))
            ;;
        *:*.rpm)
            if [ -f "$argument" ]; then
                cp "$argument" "$root/tmp/" || exit 1
                argument=/tmp/${argument##*/}
            fi
            set -- "$@" "$argument"
            ;;
        *) set -- "$@" "$argument" ;;
    esac
done
[ "${given%/}" = "$root" ] || fail "Give --root $root (dnf: --installroot), which runs that of the image"
[ -x "$root/usr/bin/$name" ] || fail "The image has no /usr/bin/$name: use another package manager of the image"
exec chroot "$root" "/usr/bin/$name" "$@"
"""


def can_write(root: Path) -> bool:
    """Whether this machine's rpm can write the package database of an image root, or there is none yet."""
    try:
        return [database.format for database in find_databases(root)] in ([], ["sqlite"])
    except UnreadableError:
        return False


def rpm_macros(root: Path) -> str:
    """Macros with which rpm uses the database of an image: Debian's rpm would use one in the home folder."""
    if not can_write(root):
        # Programs that use rpm's library must not start another database.
        return "%_db_backend that-of-the-image\n"
    existing = (name for name in FOLDERS if resolve_inside(root, name))
    folders = [*(database.folder for database in find_databases(root)), *existing, "var/lib/rpm"]
    return f"%_dbpath /{folders[0]}\n"
