"""Builds recipes with the step `build_image`, as jobs do."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ims.builder import package_root
from ims.builder.network import NetworkUse, network_use
from ims.builder.squashfs import make_rootfs
from ims.sandbox import namespaces
from ims.sandbox.overlay import mount_image
from ims.steps import build_ca_package, resolve_packages
from ims.workspace import Workspace
from tests.recipes.summary import note_recipe


@dataclass
class Built:
    """An image root, its squashfs and the log of the build in a workspace."""

    workspace: Workspace
    root: Path
    rootfs: bytes
    log: str
    network: NetworkUse


class Builder:
    """Builds a recipe repeatedly, each time in a new workspace."""

    def __init__(self, recipe: Path, manager: str, folder: Path) -> None:
        self.recipe, self.manager, self.folder = recipe, manager, folder
        self._count = 0

    def build(
        self,
        packages: str | None = None,
        hours: int | None = None,
        predicted: bool = True,
        path: str = "",
        force: bool = False,
    ) -> Built:
        """Run the step with a digest of its `packages`, which were `predicted` or not, `hours` later.

        It finds programs in the folder `path` first. With `force`, it uses nothing of an earlier build.
        """
        self._count += 1
        packages = packages and f"{packages} {self.folder}"
        workspace = self.folder / f"job-{self._count}"
        shutil.copytree(self.recipe, workspace / "recipe", symlinks=True)
        note_recipe(Workspace(workspace))
        if packages is not None and predicted:
            resolve_packages.run(resolve_packages.Input(workspace=workspace, arch=platform.machine(), boot_files={}))
        made = build_ca_package.run(build_ca_package.Input(workspace=workspace, package_manager=self.manager))
        data: dict[str, object] = {
            "workspace": str(workspace),
            "lineage": self.folder.name,
            "package_manager": self.manager,
        }
        data |= {"ca_package": made, "force": force} | ({} if packages is None else {"packages": packages})
        program = ["tests.steps.build_later", str(hours), json.dumps(data)]
        if hours is None:
            program = ["ims.steps", "build_image", "--result", str(workspace / "result")]
        command = [*namespaces.STEP, sys.executable, "-m", *program]
        done = subprocess.run(
            command,
            env=os.environ | {"PATH": f"{path}:{os.environ['PATH']}"},
            input=json.dumps(data),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        if (found := package_root.layers(Workspace(workspace))) is not None:
            mount_image(found.rootfs, found.changes, found.target, redirect=found.redirect)
        make_rootfs(workspace / "image-root", workspace / "rootfs")
        rootfs = (workspace / "rootfs").read_bytes()
        made_by = Workspace(workspace)
        return Built(made_by, made_by.image_root, rootfs, done.stdout, network_use(made_by))
