"""What a box sees when it works on a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ims.sandbox.limits import Limits
from ims.sandbox.overlay import Layers
from ims.sandbox.view import View
from ims.settings import settings
from ims.workspace import Workspace


def view_of(
    workspace: Workspace,
    *writable: Path,
    readable: Sequence[Path] = (),
    image: Layers | None = None,
    everyone: bool = False,
) -> View:
    """The view of a box that works in a workspace: all of it except what the runtime and the SSH server keep there.

    The notes of other steps cannot be changed. More `writable` folders and `readable` files may be outside
    of the workspace.
    """
    hidden, notes = (workspace.run, workspace.shell), workspace.notes
    for folder in (*hidden, notes):
        folder.mkdir(exist_ok=True)
    return View(
        (workspace.root, *writable),
        (notes, settings().ca_certificate_path, *readable),
        hidden,
        image,
        everyone,
        limits=_limits(),
    )


def view_of_folder(folder: Path) -> View:
    """The view of a box that sees a folder and nothing of a job."""
    return View((folder,), (settings().ca_certificate_path,), limits=_limits())


def _limits() -> Limits:
    return Limits.of_machine(settings().sandbox_processes, settings().sandbox_memory_percent)
