"""A site without Airflow: S3, repositories and the steps of the workflows, called in this process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ims.builder import programs
from ims.recipes.build_inputs import BuildInputs
from ims.recipes.secrets import TemplateValues
from ims.removal import remove
from ims.sandbox import namespaces
from ims.settings import settings
from ims.steps import build_ca_package, fetch_recipe, plan_images, resolve_packages
from ims.steps.plan_images import Plan, RecipeToPlan
from ims.storage import manifest
from ims.storage.manifest import Artifact, Link
from ims.storage.objects import ObjectName, ObjectStore
from ims.workspace import Workspace
from tests.flows.rpm_repository import PrivateCA, RepositoryServer
from tests.images.trees import unmount
from tests.planning.world import Repositories, World

RECIPE = "recipe"


@dataclass(frozen=True)
class RegisteredImage:
    """An image in S3, and the state in which it was built."""

    world: World
    manifest: ObjectName
    rootfs: ObjectName


@dataclass(frozen=True)
class Built:
    """The SHA-256 of the artifacts that nodes boot, and the build inputs that the image states."""

    artifacts: dict[str, str]
    inputs: BuildInputs


class Site:
    """Plans and builds the recipe of a state. What follows from a state is computed once."""

    def __init__(self, folder: Path, store: ObjectStore, server: RepositoryServer, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._store, self._server, self._patch = folder, store, server, patch
        self._repositories = Repositories(folder / "repositories")
        self._certificates = [PrivateCA(folder / f"ca-{number}").certificate for number in range(2)]
        self._libraries = dict(programs._packages())
        self._built: dict[World, Built] = {}
        self._inputs: dict[World, BuildInputs] = {}
        self._count = 0
        self.builds = self.plans = 0

    def plan(self, world: World, image: RegisteredImage) -> Plan:
        """The plan of the recipe in a state, whose newest image is `image`."""
        self.plans += 1
        with self._workspace(world) as workspace:
            recipe = RecipeToPlan(
                recipe_id=RECIPE,
                name=RECIPE,
                path=str(self._push(world)),
                arch=platform.machine(),
                profiles=list(world.profiles),
                boot_files=world.boot_files,
                image_id="image",
                manifest=str(image.manifest),
            )
            step = plan_images.Input(workspace=workspace, recipes=[recipe], templates=self._values(world))
            (found,) = plan_images.run(step)
            return found

    def register(self, world: World) -> RegisteredImage:
        """Register an image as a job does that builds the recipe in a state. Its content is not needed: see `build`."""
        self._count += 1
        return self._register(world, self.predicted(world).model_copy(update={"downloads": self.downloads(world)}))

    def downloads(self, world: World) -> tuple[str, ...] | None:
        """What scripts downloaded in a state, as a build notes it. It depends on the script alone."""
        return self.build(World(fetching=world.fetching)).inputs.downloads

    def predicted(self, world: World) -> BuildInputs:
        """The build inputs that a job predicts in a state."""
        if world not in self._inputs:
            with self._workspace(world) as workspace:
                self._inputs[world] = self._predict(world, workspace)
        return self._inputs[world]

    def build(self, world: World) -> Built:
        """Build the recipe in a state, without anything that an earlier build left."""
        if world not in self._built:
            self.builds += 1
            with self._workspace(world) as workspace:
                self._predict(world, workspace)
                self._built[world] = self._run(world, workspace)
        return self._built[world]

    def overwrite(self, name: ObjectName) -> None:
        """Put another object in the place of one."""
        self._store.write_bytes(name, b"something else")

    def delete(self, name: ObjectName) -> None:
        """Delete an object."""
        self._store.delete(name)

    @contextmanager
    def _workspace(self, world: World) -> Iterator[Workspace]:
        """An empty workspace on a machine in a state."""
        self._count += 1
        self._enter(world)
        folder = settings().home / "builds" / f"job-{self._count}"
        folder.mkdir(mode=0o700, parents=True)
        try:
            yield Workspace(folder)
        finally:
            unmount(folder)
            remove(folder)

    def _enter(self, world: World) -> None:
        self._server.folder = self._repositories.folder(world)
        self._server.recover()
        if not world.is_there:
            self._server.fail(404)
        self._patch.setenv("IMS_CA_CERTIFICATE", str(self._certificates[world.certificate]))
        self._patch.setenv("IMS_SQUASHFS_LEVEL", str(world.squashfs_level))
        settings.cache_clear()
        library = replace(self._libraries["libsolv1"], version=world.library)
        self._patch.setattr(programs, "_packages", lambda: {**self._libraries, "libsolv1": library})

    def _push(self, world: World) -> ObjectName:
        name = ObjectName(settings().recipes_bucket, "recipe.tar.gz")
        self._store.write_bytes(name, world.archive())
        return name

    def _values(self, world: World) -> TemplateValues:
        variables = {
            "REPOSITORY": f"{self._server.url}/main",
            "SECOND": f"{self._server.url}/second",
            "VARIABLE": world.variable,
        }
        return TemplateValues(dictionaries={RECIPE: variables})

    def _predict(self, world: World, workspace: Workspace) -> BuildInputs:
        step = fetch_recipe.Input(
            workspace=workspace,
            recipe_id=RECIPE,
            path=str(self._push(world)),
            profiles=list(world.profiles),
            templates=self._values(world),
        )
        fetch_recipe.run(step)
        wanted = resolve_packages.Input(workspace=workspace, arch=platform.machine(), boot_files=world.boot_files)
        assert resolve_packages.run(wanted) is not None
        return BuildInputs.read(workspace.build_inputs.read_bytes())

    def _run(self, world: World, workspace: Workspace) -> Built:
        package = build_ca_package.run(build_ca_package.Input(workspace=workspace, package_manager="dnf4"))
        build = {"workspace": str(workspace.root), "lineage": RECIPE, "package_manager": "dnf4", "ca_package": package}
        artifacts = {"workspace": str(workspace.root), "arch": platform.machine(), **world.boot_files}
        result = workspace.root / "result"
        command: list[str | Path] = [*namespaces.STEP, sys.executable, "-m", "tests.planning.build_whole", result]
        done = subprocess.run(
            [*command, json.dumps(build), json.dumps(artifacts)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env=dict(os.environ),
        )
        assert done.returncode == 0, done.stdout
        inputs = BuildInputs.read((workspace.artifacts / workspace.build_inputs.name).read_bytes())
        return Built(json.loads(result.read_text()), inputs)

    def _register(self, world: World, inputs: BuildInputs) -> RegisteredImage:
        bucket, folder = settings().images_bucket, f"image-{self._count}"
        contents = {
            manifest.ROOTFS: b"the rootfs",
            manifest.KERNEL: b"the kernel",
            manifest.PROVENANCE: inputs.model_dump_json().encode(),
        }
        artifacts = []
        for number, (kind, content) in enumerate(contents.items()):
            name = ObjectName(bucket, f"{folder}/{number}")
            link = Link(path=str(name), etag=self._store.write_bytes(name, content))
            artifacts.append(Artifact(type=kind, link=link))
        name = ObjectName(bucket, f"{folder}/{manifest.MANIFEST_NAME}")
        self._store.write_bytes(name, manifest.write_manifest(artifacts).encode())
        return RegisteredImage(world, name, ObjectName.parse(artifacts[0].link.path))
