"""Compare builds in the sandbox with the same builds by the same code outside of it.

`python -m tests.perf.box inside|outside INPUT` builds once; it runs in the namespaces of a step.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ims.demo.build import RECIPE
from ims.demo.mirrors import debian_mirrors
from ims.recipes.template import render
from ims.removal import remove
from ims.sandbox import namespaces
from ims.sandbox.overlay import mount_image
from ims.sandbox.view import View
from ims.settings import settings
from ims.steps import build_ca_package, build_image
from ims.workspace import Workspace
from tests.perf.bare import hide_the_host
from tests.perf.measure import Cost, measured, table
from tests.recipes.summary import note_recipe

ROUNDS = 3
TARGET = 1.03
WAYS = ("inside", "outside")


def box_table(folder: Path) -> str:
    """Return the cost of a build without a package root in both ways, in turn, with a warm package cache."""
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    _build("inside", folder)
    for number in range(ROUNDS):
        for way in WAYS if number % 2 else reversed(WAYS):
            costs[way].append(_build(way, folder))
    wall = {way: statistics.median(cost.wall for cost in costs[way]) for way in WAYS}
    cpu = {way: statistics.median(cost.cpu for cost in costs[way]) for way in WAYS}
    rows = [[f"{way} the sandbox", f"{wall[way]:.1f}", f"{cpu[way]:.1f}"] for way in WAYS]
    rows.append(["inside / outside", *(f"{found['inside'] / found['outside']:.3f}" for found in (wall, cpu))])
    rows.append([f"target: {TARGET}", f"{TARGET * wall['outside']:.1f}", ""])
    return f"\n### build_image in the sandbox, median of {ROUNDS}\n\n" + table(["", "wall s", "build's CPU s"], rows)


def _build(way: str, folder: Path) -> Cost:
    """Build the shipped recipe in a new workspace."""
    workspace = Workspace(folder / "job")
    remove(workspace.root)
    shutil.copytree(RECIPE, workspace.recipe)
    render(workspace.recipe, debian_mirrors())
    note_recipe(workspace)
    package = build_ca_package.run(build_ca_package.Input(workspace=workspace, package_manager="apt"))
    data = {"workspace": str(workspace.root), "lineage": "box", "package_manager": "apt", "ca_package": str(package)}
    command = [*namespaces.STEP, sys.executable, "-m", __name__, way, json.dumps(data)]
    before = _own_cpu()
    with measured() as cost, (folder / f"{way}.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)
    cost.cpu = _own_cpu() - before
    remove(workspace.root)
    return cost


def _own_cpu() -> float:
    """The processor time of all builds until now. Unlike that of the machine, it does not count other work."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def call_outside(function: Callable[[Any], Any], argument: Any, view: View, *_: object, **_options: object) -> Any:
    """Stands in for `ims.sandbox.call.call`: the function has the rights of this process."""
    hide_the_host(argument.workspace.root / f"host-{function.__name__}")
    if (image := view.image) is not None:
        mount_image(image.rootfs, image.changes, image.target, redirect=image.redirect)
    return function(argument)


def main(way: str, data: str) -> None:
    """Run the step `build_image`."""
    if way == "outside":
        vars(build_image).update(call=call_outside)
    build_image.run(build_image.STEP.read_input(data))


def box() -> None:
    """Print the comparison. Needs no stack."""
    from tests.installation import installation

    folder = installation().home / "box"
    folder.mkdir(parents=True)
    try:
        print(box_table(folder), flush=True)
    finally:
        remove(folder)
        remove(settings().home / "cache")


if __name__ == "__main__":
    main(*sys.argv[1:])
