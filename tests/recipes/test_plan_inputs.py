"""The table of a plan lists every input of a build, and whether it changed."""

from __future__ import annotations

from typing import Any

import pytest

from ims.recipes.build_inputs import BuildInputs
from ims.recipes.plan import PlannedInput, decide, describe_inputs
from tests.recipes.test_plan import BASH, BEFORE, CHANGED, CURL, NEWER, OPAQUE, OTHERS, other, unknown

PACKAGES = [BASH, CURL]


def table(now: BuildInputs, packages: Any = lambda: PACKAGES, before: BuildInputs = BEFORE) -> dict[str, PlannedInput]:
    """The table of the plan for these inputs, by the names of the inputs."""
    return {item.name: item for item in describe_inputs(before, now, decide(before, now, packages))}


def changed(found: dict[str, PlannedInput]) -> list[str]:
    """The inputs that changed."""
    return [name for name, item in found.items() if item.changed]


def test_every_input_is_listed() -> None:
    """Each with its digest or value."""
    found = table(other())
    assert list(found) == [
        *("description", "bootstrap_script", "files", "ca_certificate", "arch"),
        *("boot_files: initrd_file_name", "builder: kiwi", "repository: http://one", "packages"),
    ]
    assert found["description"].observed == "sha256:1"
    assert found["builder: kiwi"].observed == "11.1.6"
    assert found["packages"].observed == f"sha256:{BEFORE.packages_digest}"
    assert changed(found) == []
    listed = {name.split(":")[0].replace("repository", "repositories") for name in found}
    assert set(BuildInputs.model_fields) - listed == {"unknown", "opaque", "hosts", "downloads"}


@pytest.mark.parametrize("field", [*OTHERS, "files"])
def test_changed_input(field: str) -> None:
    """The input that changed is marked, and no other."""
    found = table(other(**{field: OTHERS.get(field, "2")}))
    assert {name.split(":")[0] for name in changed(found)} == {field}


def test_repositories_and_packages() -> None:
    """Packages changed only if the solver says so. A repository that is gone was observed before."""
    assert changed(table(other(**CHANGED))) == ["repository: http://one"]
    found = table(other(**CHANGED), lambda: [NEWER, CURL])
    assert changed(found) == ["repository: http://one", "packages"]
    gone = table(other(repositories={}))["repository: http://one"]
    assert (gone.before, gone.observed, gone.changed) == ("sha256:1", None, True)


def test_not_observed() -> None:
    """The reason is listed, and it is unknown whether the input changed."""
    found = table(other(opaque=OPAQUE))["not observed"]
    assert (found.opaque, found.changed, found.observed) == (OPAQUE[0], None, None)
    assert table(other(**CHANGED), unknown)["packages"].opaque
    before = BEFORE.without_packages("a script installs others")
    assert table(other(), before=before)["packages"].opaque == "a script installs others"
