"""Attacks on the logins of repositories: builds print them, and everything that a build leaves is searched for them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ims import masking
from ims.recipes import archive
from ims.recipes.secrets import TemplateValues
from ims.runtime.local.process import StepProcess
from ims.runtime.local.runtime import LocalRuntime
from ims.settings import settings
from ims.steps import fetch_recipe
from ims.steps.fetch_recipe import use_secrets
from ims.steps.step import load_step
from ims.storage.objects import ObjectStore
from ims.workspace import Workspace
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import PrivateCA, RepositoryServer, build_repository

pytestmark = pytest.mark.system

USER, PASSWORD = "planted-user", "planted-0123456789abcdef+&x"
SOURCE = '<source path="{{ REPOSITORY }}"/>'
ADDRESS = "{{ REPOSITORY | replace('://', '://' ~ USER ~ ':' ~ PASSWORD ~ '@') | e }}"
SCRIPT = "#!/bin/sh\nset -x\necho 'the login is {{ USER }}:{{ PASSWORD }}'\n"
VALUES = {"USER": "secret:nexus.login", "PASSWORD": "secret:nexus.password"}
PRIVATE = {
    *("recipe", "recipe-packages", "recipe-image", "image-root/image", "image-root.changes/upper/image"),
    *("notes/recipe.json", "notes/secrets.json"),
}
"""The files of the workspace that need the login, or that kiwi copies for scripts. They are no part of the image."""
_PATTERN = re.compile(
    b"|".join(re.escape(form.encode()) for text in (USER, PASSWORD) for form in masking.spellings(text))
)


@dataclass
class Job:
    """Runs the steps of a job on this machine; keeps what they print and return."""

    workspace: Workspace
    said: list[str] = field(default_factory=list)

    def run(self, name: str, **data: Any) -> Any:
        """Run a step."""
        inputs = {"workspace": str(self.workspace.root), **data}
        result = StepProcess().run(load_step(name), inputs, f"{name}--1", self.said.append, {})
        self.said.append(repr(result))
        return result


def contains(data: bytes | str) -> bool:
    """Whether the data contains the login in any spelling."""
    return _PATTERN.search(data.encode() if isinstance(data, str) else data) is not None


def files_with_login(folder: Path) -> set[str]:
    """The files below a folder that contain the login."""
    files = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return {
        str(path.relative_to(folder))
        for path in files
        if path.is_file() and not path.is_symlink() and contains(path.read_bytes())
    }


def unpacked(squashfs: Path, folder: Path) -> Path:
    """The content of a squashfs."""
    subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-d", folder, squashfs], check=True)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RepositoryServer]:
    """A repository that only the login opens."""
    with RepositoryServer(build_repository(tmp_path_factory.mktemp("repository")), login=f"{USER}:{PASSWORD}") as found:
        yield found


@pytest.fixture
def job(tmp_path: Path, configure: Callable[..., None]) -> Job:
    """A job with an open workspace."""
    configure(home=tmp_path / "home", ca_certificate=PrivateCA(tmp_path).certificate, log_level="DEBUG")
    return Job(Workspace(LocalRuntime().open_workspace("11111111-2222-3333-4444-555555555555", 1)))


@pytest.mark.parametrize("manager", ["zypper", "dnf"])
def test_build_that_prints_its_login(
    job: Job, server: RepositoryServer, manager: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No log, result, cache or image contains the login; in the workspace only the recipe does."""
    workspace = job.workspace
    folder = tmp_path / "recipe"
    shutil.copytree(RECIPES / manager, folder)
    (folder / "config.xml").write_text(
        (folder / "config.xml").read_text().replace(SOURCE, f'<source path="{ADDRESS}"/>')
    )
    (folder / "config.sh").write_text(SCRIPT)
    (folder / ".ims_recipe_template.yaml").write_text("template_files: [config.xml, config.sh]\n")
    monkeypatch.setattr(fetch_recipe, "download", lambda _store, _path, packed: archive.pack(folder, packed))
    monkeypatch.setattr(ObjectStore, "from_environment", lambda: None)
    templates = TemplateValues(
        dictionaries={"r": {"REPOSITORY": server.url, **VALUES}},
        secrets={"nexus.login": USER, "nexus.password": PASSWORD},
    )
    data = fetch_recipe.Input(workspace=workspace, recipe_id="r", path="s3://ims/recipe", templates=templates)
    recipe = fetch_recipe.run(data)
    assert recipe.repositories == []  # it was asked with its login
    assert not contains(recipe.model_dump_json())
    ca_package = job.run("build_ca_package", package_manager=recipe.package_manager)
    packages = job.run("resolve_packages", arch="x86_64", boot_files={})
    assert packages is not None
    inputs = {"package_manager": recipe.package_manager, "ca_package": ca_package, "packages": packages}
    job.run("build_image", lineage="lineage", **inputs)
    names = {"kernel": "vmlinuz", "initrd": "initrd", "kernel_parameters": "kernel-parameters"}
    job.run("package_artifacts", arch="x86_64", **{f"{kind}_file_name": name for kind, name in names.items()})
    assert "the login is ***:***" in workspace.kiwi_log.read_text()
    assert not contains("\n".join(job.said))
    found = files_with_login(settings().home)
    private = {f"{workspace.root.relative_to(settings().home)}/{name}" for name in PRIVATE}
    assert {name for name in found if not any(name == item or name.startswith(f"{item}/") for item in private)} == set()
    (root,) = settings().home.glob("cache/roots/*/*.squashfs")
    assert files_with_login(unpacked(workspace.artifacts / "rootfs", tmp_path / "rootfs")) == set()
    assert files_with_login(unpacked(root, tmp_path / "package-root")) == set()


def test_login_by_value_is_found(job: Job) -> None:
    """The search finds a login that a step writes without hiding it."""
    use_secrets(TemplateValues(dictionaries={"r": {"PASSWORD": PASSWORD}}), "r", job.workspace)
    (job.workspace.root / "result").write_text(f"http://{USER}:{PASSWORD}@h")
    assert files_with_login(settings().home) == {str((job.workspace.root / "result").relative_to(settings().home))}
