"""The site's root CA certificate in an image that was not built with it."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path

from ims.images.root import resolve_inside

log = logging.getLogger(__name__)

FILE_NAME = "site-root-ca.crt"
# Where Debian, SUSE and Red Hat look for certificates that an administrator adds, and where our RPM puts it.
ANCHORS = ("usr/local/share/ca-certificates", "etc/pki/trust/anchors", "etc/pki/ca-trust/source/anchors")
PACKAGED = "usr/share/pki/trust/anchors"
UPDATERS = ("usr/sbin/update-ca-certificates", "usr/bin/update-ca-trust")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def add(root: Path, certificate: Path) -> None:
    """Trust `certificate` in the image root; the image's own program brings its bundles up to date.

    An image without such a program gets the file alone, and the log says so.
    """
    folders = [found for name in ANCHORS if (found := resolve_inside(root, name)) is not None and found.is_dir()]
    places = [*folders, *filter(None, [resolve_inside(root, PACKAGED)])]
    if any(_same(place / FILE_NAME, certificate) for place in places):
        log.info("the image trusts the site's CA already")
        return
    for folder in folders:
        (folder / FILE_NAME).unlink(missing_ok=True)
        shutil.copyfile(certificate, folder / FILE_NAME)
    updater = next((f"/{name}" for name in UPDATERS if _is_program(root, name)), None)
    if not folders or updater is None:
        log.warning("the image has no trust store that is known here: the site's CA is not trusted in it")
        return
    done = subprocess.run(
        ["chroot", root, updater],
        env={"PATH": PATH, "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        log.warning("%s in the image ended with %d: %s", updater, done.returncode, done.stderr.strip())


def _same(target: Path, certificate: Path) -> bool:
    return target.is_file() and not target.is_symlink() and target.read_bytes() == certificate.read_bytes()


def _is_program(root: Path, name: str) -> bool:
    found = resolve_inside(root, name)
    return found is not None and found.is_file() and os.access(found, os.X_OK)
