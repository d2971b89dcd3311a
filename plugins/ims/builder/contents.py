"""Describes the content of an image root: its SBOM and the list of its files."""

from __future__ import annotations

import logging
from pathlib import Path

from ims.builder.squashfs import KIWI_FILES
from ims.errors import ImsError
from ims.images.derivation import Layer, derive_files
from ims.images.files import LIST, write_files
from ims.images.inventory import read_inventory
from ims.images.sbom import SBOM, write_sbom

log = logging.getLogger(__name__)


def describe_contents(root: Path, folder: Path, old: Path | None = None, layer: Layer | None = None) -> None:
    """Write the SBOM of an image root and the list of its files.

    The list is derived if `old`, the list of the image below, and `layer`, the changes of that image, are known.
    """
    inventory = read_inventory(root)
    (folder / SBOM).write_text(write_sbom(inventory))
    if old is None or layer is None or not _derive(old, layer, folder / LIST):
        write_files(root, folder / LIST, KIWI_FILES)
    if inventory.packages is None:
        log.warning("the packages of the image are unknown: %s", inventory.unknown)
    else:
        log.info("the image contains %d packages", len(inventory.packages))
    log.info("kernels: %s", ", ".join(inventory.kernels) or "none")


def _derive(old: Path, layer: Layer, target: Path) -> bool:
    """Derive a list of files. Returns whether that was possible."""
    try:
        derive_files(old, layer, target, KIWI_FILES)
    except ImsError as error:
        log.info("the list of files is not derived from that of the old image, but computed: %s", error)
        return False
    log.info("the list of files is that of the old image with the changes")
    return True
