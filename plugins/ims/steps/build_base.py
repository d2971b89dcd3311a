"""Finds or makes the base of the rootfs of a build, see `ims.builder.root_base`."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

from ims import cache
from ims.builder import image_secrets, package_root, root_base
from ims.images.derivation import has_changed_links
from ims.images.squashfs.superblock import SpliceError
from ims.images.squashfs.upper import opaque_folders, store_names
from ims.sandbox.call import call
from ims.sandbox.overlay import LOWER, Layers, mount_lower
from ims.settings import settings
from ims.steps.step import StepInput
from ims.steps.views import view_of
from ims.workspace import Workspace

log = logging.getLogger(__name__)

_SUFFIX = ".base"
_PATTERNS, _BASE = "replaced.txt", "base.squashfs"
"""Files on their way to the cache."""


class BuildBase(NamedTuple):
    """The base of a rootfs, and what only root of the host can find out about the changes: see `Packing`."""

    base: Path
    opaque: list[bytes]
    is_complete: bool


def find_or_pack(workspace: Workspace, image: Layers | None) -> BuildBase | None:
    """Returns None if the rootfs is packed in full. The log says why, unless IMS_SQUASHFS_SPLICE_BUILDS is off."""
    if not settings().squashfs_splice_builds:
        return None
    try:
        if image is None:
            raise SpliceError("this machine cannot mount the package root")
        root = mount_lower(image.rootfs, image.changes, unpack=image.unpack)
        root_base.check_root(root)
        # This changes files, so it must happen before the changes of the build are listed.
        step = BaseInput(workspace=workspace)
        if (reason := call(settle, step, view_of(workspace, image=image, everyone=True))) is not None:
            raise SpliceError(reason)
        opaque = opaque_folders(image.changes)
        path = _base(workspace, image, opaque)
        return BuildBase(path, opaque, not has_changed_links(image.changes))
    except SpliceError as error:
        log.info("the rootfs is packed in full: %s", error.reason)
        return None


class BaseInput(StepInput):
    """The input of the functions that run in a sandbox."""


def settle(step: BaseInput) -> str | None:
    """Remove secrets, and store all names of changed files; in the sandbox. Returns None, or why that is impossible.

    Raises the errors of `image_secrets.check`.
    """
    workspace = step.workspace
    image_secrets.check(workspace, is_built=True)
    try:
        store_names(workspace.image_root_changes / LOWER, workspace.image_root)
    except SpliceError as error:
        return error.reason
    return None


def _base(workspace: Workspace, image: Layers, opaque: list[bytes]) -> Path:
    """The base that an earlier build packed, or a new one, which later builds can use."""
    paths = root_base.replaced_files(image.changes, opaque)
    suffix = f".{hashlib.sha256(bytes(1).join(paths)).hexdigest()}{_SUFFIX}"
    root = cache.claimed_by(cache.ROOTS, workspace)
    if root is not None and not workspace.package_root.exists() and (found := package_root.kept(root, suffix)):
        log.info("only the changes are packed: an earlier build kept the same files of the package root")
        return found
    workspace.kept_root.mkdir(exist_ok=True)
    for left in (workspace.kept_root / _PATTERNS, workspace.kept_root / _BASE):  # by an earlier try
        left.unlink(missing_ok=True)
    root_base.write_patterns(paths, workspace.kept_root / _PATTERNS)
    call(pack, BaseInput(workspace=workspace), view_of(workspace, image=image, everyone=True))
    if root is not None:
        try:
            return package_root.keep(workspace.kept_root / _BASE, root, suffix, workspace)
        except OSError as error:
            log.warning("the base of the rootfs is not kept for the next build: %s", error)
    return workspace.kept_root / _BASE


def pack(step: BaseInput) -> None:
    """Pack a base; in a sandbox of its own, since other recipes may use it."""
    workspace = step.workspace
    lower = workspace.image_root_changes / LOWER
    root_base.pack_base(lower, workspace.kept_root / _PATTERNS, workspace.kept_root / _BASE)
