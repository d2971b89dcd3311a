"""Lists what was changed in an image that was customized: for its record, and as an artifact."""

from __future__ import annotations

import logging
from pathlib import Path

from ims.images.changes import Changes, compare
from ims.sandbox.call import call
from ims.sandbox.overlay import Layers, mount_lower, unpacks
from ims.shell.cleanup import remove_traces
from ims.steps.step import Step, StepInput
from ims.steps.views import view_of

log = logging.getLogger(__name__)


class Input(StepInput):
    """`rootfs` is the squashfs of the image that was customized."""

    rootfs: Path


def run(step: Input) -> Changes:
    """Removes the traces of the shell and writes all changes to `changes.txt`; returns their summary."""
    workspace = step.workspace
    lower = mount_lower(step.rootfs, workspace.changes, unpack=unpacks())
    removed = remove_traces(workspace.changed_files, lower)
    log.info("removed traces of the shell: %s", ", ".join(removed) or "none")
    image = Layers(step.rootfs, workspace.changes, workspace.image_root)
    return call(list_all, step, view_of(workspace, image=image, everyone=True))


def list_all(step: Input) -> Changes:
    """Write all changes to `changes.txt`; in the sandbox. Returns their summary."""
    workspace = step.workspace
    found = compare(workspace.base, workspace.changed_files, workspace.image_root)
    workspace.change_list.write_text("".join(f"{line}\n" for line in found.lines()))
    summary = found.summary()
    if found.unknown:
        log.warning("it is unknown which packages changed: %s", found.unknown)
    for name, names in summary:
        if names is not None and names.count:
            log.info("%s: %d: %s", name.replace("_", " "), names.count, ", ".join(names.first))
    return summary


STEP = Step("list_changes", Input, run, privileged=True)
