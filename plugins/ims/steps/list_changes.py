"""What was changed in an image, found before it is packed: for its record, and as a list beside its manifest."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ims.images.changes import compare
from ims.images.overlay import mount_image, mount_lower
from ims.shell.traces import clean
from ims.steps.step import Step, StepInput

log = logging.getLogger(__name__)


class Input(StepInput):
    """`rootfs` is the squashfs of the image that was changed in the workspace."""

    rootfs: Path


def run(step: Input) -> dict[str, Any]:
    """Removes the traces of the shell; leaves the whole list in `changes.txt` and returns its summary."""
    changes, upper = step.workspace.changes, step.workspace.changed_files
    lower = mount_lower(step.rootfs, changes)
    removed = clean(upper, lower)
    log.info("removed traces of the shell: %s", ", ".join(removed) or "none")
    root = step.workspace.image_root
    mount_image(step.rootfs, changes, root)
    found = compare(lower, upper, root)
    step.workspace.change_list.write_text("".join(f"{line}\n" for line in found.lines()))
    summary = found.summary().model_dump()
    for name, names in summary.items():
        if names["count"]:
            log.info("%s: %d: %s", name.replace("_", " "), names["count"], ", ".join(names["first"]))
    return summary


STEP = Step("list_changes", Input, run, privileged=True)
