"""Adds the site's root CA certificate to an image that was built without it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ims.images.root import follow_links, resolve_inside
from ims.sandbox.image_programs import run_in_image

log = logging.getLogger(__name__)

PACKAGE = "site-root-ca"
"""The name of the package with the certificate."""
FILE_NAME = f"{PACKAGE}.crt"
# Where Debian, SUSE and Red Hat look for certificates that an administrator adds.
ANCHORS = ("usr/local/share/ca-certificates", "etc/pki/trust/anchors", "etc/pki/ca-trust/source/anchors")
# Where our RPM installs the certificate.
RPM_ANCHORS = "usr/share/pki/trust/anchors"
UPDATERS = ("usr/sbin/update-ca-certificates", "usr/bin/update-ca-trust")
UPDATE_SECONDS = 300
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def add(root: Path, certificate: Path, further: Iterable[str] = ()) -> None:
    """Add `certificate` to the trust store of the image, and run the image's own program that updates its bundles.

    If the image has no such program, only the file is added, and a warning is logged. `further` are other files of
    the image to which the certificate is copied.
    """
    for place in further:
        _copy(certificate, root, place)
    folders = [found for name in ANCHORS if (found := resolve_inside(root, name)) is not None and found.is_dir()]
    places = [*folders, *filter(None, [resolve_inside(root, RPM_ANCHORS)])]
    if any(_has_content(place / FILE_NAME, certificate) for place in places):
        log.info("the image already trusts the site's CA")
        return
    for folder in folders:
        (folder / FILE_NAME).unlink(missing_ok=True)
        shutil.copyfile(certificate, folder / FILE_NAME)
    updater = next((f"/{name}" for name in UPDATERS if _is_program(root, name)), None)
    if not folders or updater is None:
        log.warning("the image does not trust the site's CA: it has no trust store of a known kind")
        return
    code, last = run_in_image(root, [updater], _ENVIRONMENT, UPDATE_SECONDS)
    if code < 0:
        log.warning("%s in the image was killed after %d s", updater, UPDATE_SECONDS)
    elif code > 0:
        log.warning("%s in the image ended with exit code %d: %s", updater, code, last[-1] if last else "no output")


def _copy(certificate: Path, root: Path, place: str) -> None:
    try:
        target = follow_links(root, place)
        if not _has_content(target, certificate):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copyfile(certificate, target)
            target.chmod(0o644)
    except OSError as error:
        log.warning("the site's CA certificate is not at %s in the image: %s", place, error.strerror)


def _has_content(target: Path, certificate: Path) -> bool:
    return target.is_file() and not target.is_symlink() and target.read_bytes() == certificate.read_bytes()


def _is_program(root: Path, name: str) -> bool:
    found = resolve_inside(root, name)
    return found is not None and found.is_file() and os.access(found, os.X_OK)
