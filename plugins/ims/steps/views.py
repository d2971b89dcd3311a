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
    own = settings()
    hidden, notes = (workspace.run, workspace.shell), workspace.notes
    for folder in (*hidden, notes):
        folder.mkdir(exist_ok=True)
    return View(
        (workspace.root, *writable),
        (notes, own.ca_certificate_path, *readable),
        hidden,
        image,
        everyone,
        limits=Limits.of_machine(own.sandbox_processes, own.sandbox_memory_percent),
    )
