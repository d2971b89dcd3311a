"""Checks an image root for secrets before the image is registered, as the setting `image_secrets` says."""

from __future__ import annotations

import filecmp
import logging
import stat
from collections.abc import Iterable
from pathlib import Path

from ims import masking
from ims.builder.squashfs import KIWI_FILES
from ims.errors import InputError
from ims.images.credentials import (
    HOST_KEY,
    Credential,
    files_with,
    known_credentials,
    password_hashes,
    private_keys,
)
from ims.images.root import resolve_inside
from ims.recipes.overlay import OVERLAY
from ims.settings import settings
from ims.workspace import Workspace

log = logging.getLogger(__name__)

MIN_LENGTH = 8
"""Characters. Shorter texts, such as the names of users, occur in files that have nothing to do with a secret."""
_SHOWN = 10
_KEEP = "Remove it in a script of the recipe. IMS_IMAGE_SECRETS=keep allows secrets in images"


def check(workspace: Workspace, *, is_built: bool) -> bool:
    """Remove secrets from the image root, or refuse or keep them. `is_built`: the image root comes from a recipe.

    Host keys are kept if they may be deliberate: if the overlay of the recipe has them, or in a customized image.
    Returns whether anything was removed.
    Raises InputError if the setting refuses what was found, or if a file contains a secret of the recipe.
    """
    found = known_credentials(workspace.image_root)
    action, has_removed = settings().image_secrets, False
    if found and action == "refuse":
        raise InputError(f"the image contains secrets: {_list(map(str, found))}", _KEEP)
    for credential in found:
        if action == "keep" or _is_deliberate(credential, workspace, is_built):
            log.warning("the image contains %s", credential)
        else:
            credential.remove()
            has_removed = True
            log.warning("removed from the image: %s", credential)
    _check_secrets_of_recipe(workspace)
    return has_removed


def removed_secrets(base: Path, root: Path) -> list[str]:
    """The secrets of the image `base` that a customized image `root` no longer has: they were removed or changed."""
    files = [*known_credentials(base), *private_keys(base)]
    hashes, left = password_hashes(base), password_hashes(root)
    found = [str(item) for item in files if not _is_unchanged(item.path, base, root)]
    return found + [f"{name} (the hash of a password)" for text, name in hashes.items() if text not in left]


def _is_unchanged(path: Path, base: Path, root: Path) -> bool:
    found = resolve_inside(root, str(path.relative_to(base)))
    return found is not None and stat.S_ISREG(found.lstat().st_mode) and filecmp.cmp(path, found, shallow=False)


def _is_deliberate(credential: Credential, workspace: Workspace, is_built: bool) -> bool:
    in_overlay = resolve_inside(workspace.recipe / OVERLAY, credential.name)
    return credential.kind == HOST_KEY and (not is_built or (in_overlay is not None and in_overlay.is_file()))


def _check_secrets_of_recipe(workspace: Workspace) -> None:
    """Raises InputError if a file contains a secret that the recipe refers to, unless the setting keeps secrets."""
    secrets = [secret for secret in masking.load(workspace.secrets).passwords if len(secret) >= MIN_LENGTH]
    texts = {text.encode() for secret in secrets for text in masking.spellings(secret)}
    found = list(files_with(workspace.image_root, texts, KIWI_FILES)) if texts else []
    if not found:
        return
    if settings().image_secrets != "keep":
        raise InputError(f"the image contains a secret of the recipe in {_list(found)}", _KEEP)
    log.warning("the image contains a secret of the recipe in %s", _list(found))


def _list(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
