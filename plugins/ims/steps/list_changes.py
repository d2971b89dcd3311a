"""Lists what was changed in an image that was customized: for its record, and as an artifact."""

from __future__ import annotations

import logging
from pathlib import Path

from ims.errors import ImsError
from ims.images.capture.capture import capture, write_archive
from ims.images.changes import Changes, Difference, compare
from ims.sandbox.call import call
from ims.sandbox.overlay import Layers, mount_lower, unpacks
from ims.shell.cleanup import remove_traces
from ims.shell.jail import find_resolv_conf
from ims.steps.step import Step, StepInput
from ims.steps.views import view_of
from ims.workspace import Workspace

log = logging.getLogger(__name__)


class Input(StepInput):
    """`rootfs` is the squashfs of the image that was customized."""

    rootfs: Path


def run(step: Input) -> Changes:
    """Removes the traces of the shell, and writes all changes as a list and as a script; returns their summary."""
    workspace = step.workspace
    lower = mount_lower(step.rootfs, workspace.changes, unpack=unpacks())
    removed = remove_traces(workspace.changed_files, lower)
    log.info("removed traces of the shell: %s", ", ".join(removed) or "none")
    image = Layers(step.rootfs, workspace.changes, workspace.image_root)
    return call(list_all, step, view_of(workspace, image=image, everyone=True))


def list_all(step: Input) -> Changes:
    """Write all changes as a list and as a script; in the sandbox. Returns their summary."""
    workspace = step.workspace
    found = compare(workspace.base, workspace.changed_files, workspace.image_root)
    workspace.change_list.write_text("".join(f"{line}\n" for line in found.lines()))
    record_script(found, workspace)
    summary = found.summary()
    if found.unknown:
        log.warning("it is unknown which packages changed: %s", found.unknown)
    for name, names in summary:
        if names is not None and names.count:
            log.info("%s: %d: %s", name.replace("_", " "), names.count, ", ".join(names.first))
    return summary


def record_script(found: Difference, workspace: Workspace) -> None:
    """Write the changes as a script. If that fails, the changes of the user are not lost: there is no script."""
    workspace.capture.unlink(missing_ok=True)
    try:
        mounted = {str(find_resolv_conf(workspace.base))}
        write_archive(capture(found, workspace.base, workspace.image_root, mounted), workspace.capture)
    except (OSError, ValueError, ImsError) as error:
        workspace.capture.unlink(missing_ok=True)
        log.warning("the changes are not recorded as a script: %s", error)


STEP = Step("list_changes", Input, run, privileged=True)
