"""What a box sees when it works on a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ims.sandbox.limits import Limits
from ims.sandbox.network import SandboxNetwork
from ims.sandbox.overlay import Layers
from ims.sandbox.view import View
from ims.settings import settings
from ims.shell.jail import SessionView
from ims.workspace import Workspace


def view_of(
    workspace: Workspace,
    *writable: Path,
    readable: Sequence[Path] = (),
    hidden: Sequence[Path] = (),
    image: Layers | None = None,
    everyone: bool = False,
) -> View:
    """The view of a box that works in a workspace: all of it except what the runtime and the SSH server keep there.

    The notes of other steps cannot be changed, nor the folders of the overlay except through the `image`: a program
    could put another folder in the place of the one below, of which other jobs get a copy. More `writable` folders and
    `readable` files may be outside of the workspace. More `hidden` folders of the workspace appear empty.
    """
    unseen, fixed = (workspace.run, workspace.shell, *hidden), [workspace.notes]
    if image is not None:
        fixed.append(image.changes)
    for folder in (*unseen, *fixed):
        folder.mkdir(exist_ok=True)
    return View(
        (workspace.root, *writable),
        (*fixed, settings().ca_certificate_path, *readable),
        unseen,
        image=image,
        everyone=everyone,
        limits=limits(workspace),
    )


def view_of_folder(folder: Path) -> View:
    """The view of a box that sees a folder and nothing of a job."""
    return View((folder,), (settings().ca_certificate_path,), limits=limits())


def view_of_sessions(
    workspace: Workspace, layers: Layers | None, network: SandboxNetwork, name: str, *, jail: bool
) -> SessionView:
    """What the sessions of a job see. Without `layers`, the image is the image root in the workspace."""
    return SessionView(
        jail=jail,
        name=name,
        image_root=workspace.image_root,
        layers=layers,
        outside=workspace.unjailed,
        scratch=workspace.session_scratch,
        network=network.namespace,
        proxies=network.environment,
        limits=limits(workspace),
    )


def limits(workspace: Workspace | None = None) -> Limits:
    """How much of the machine a box may use, which needs the rest. The job of a workspace may have asked for space."""
    own = settings()
    asked = int(workspace.space.read_text()) if workspace is not None and workspace.space.exists() else None
    return Limits.of_machine(own.sandbox_processes, own.sandbox_memory_percent, asked or own.build_env_size)
