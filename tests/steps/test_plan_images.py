"""Planning several recipes: what one causes does not stop the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ims import masking
from ims.builder import inputs
from ims.errors import InputError
from ims.recipes.plan import Decision, PlannedInput
from ims.steps import plan_images
from ims.steps.plan_images import LONGEST, Input, RecipeToPlan, run
from ims.storage.objects import ObjectStore
from ims.workspace import Workspace

FAULTS: dict[str, Exception] = {
    "the archive is broken": InputError("it is not a gzip tar archive"),
    "a manifest that is nested too deep": RecursionError("maximum recursion depth exceeded"),
    "anything else": ValueError("x" * 10000),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_faulty_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Exception) -> None:
    """It is built, so that its job names the fault; the other is planned."""

    def decide(_store: Any, recipe: RecipeToPlan, *_arguments: Any) -> tuple[Decision, list[PlannedInput]]:
        if recipe.name == "faulty":
            raise fault
        return Decision(verdict="skip", reason="nothing changed"), []

    monkeypatch.setattr(plan_images, "_decide", decide)
    monkeypatch.setattr(ObjectStore, "from_environment", lambda: None)
    recipes = [
        RecipeToPlan(recipe_id=name, name=name, path=f"s3://ims/{name}", arch="x86_64", boot_files={})
        for name in ("faulty", "good")
    ]
    plans = run(Input(workspace=Workspace(tmp_path), recipes=recipes))
    assert [(plan.name, plan.verdict) for plan in plans] == [("faulty", "build"), ("good", "skip")]
    assert plans[0].reason.startswith("the recipe cannot be compared with its image: ")
    assert len(plans[0].reason) < LONGEST + 100


def test_inputs_without_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Airflow stores the table of a plan, so secrets in addresses are hidden. Many plans have no tables."""
    masking.hide(["token-of-the-site"])
    listed = [PlannedInput(name="repository: http://r/token-of-the-site", opaque="token-of-the-site")]
    monkeypatch.setattr(plan_images, "_decide", lambda *_: (Decision(verdict="skip", reason="nothing"), listed))
    monkeypatch.setattr(ObjectStore, "from_environment", lambda: None)
    recipe = RecipeToPlan(recipe_id="1", name="1", path="s3://ims/1", arch="x86_64", boot_files={})
    (found,) = run(Input(workspace=Workspace(tmp_path), recipes=[recipe]))
    assert found.inputs
    assert "token-of-the-site" not in found.model_dump_json()
    assert [plan.inputs for plan in run(Input(workspace=Workspace(tmp_path), recipes=[recipe, recipe]))] == [[], []]


def test_indexes_are_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All recipes of a plan share the digests of the repositories, which cost a TLS context and a download each."""
    read: list[object] = []

    def decide(*arguments: Any) -> tuple[Decision, list[PlannedInput]]:
        arguments[-1](("a repository",))
        return Decision(verdict="skip", reason="nothing"), []

    monkeypatch.setattr(plan_images, "CONCURRENT_PLANS", 1)
    monkeypatch.setattr(plan_images, "_decide", decide)
    monkeypatch.setattr(inputs, "read_indexes", read.append)
    monkeypatch.setattr(ObjectStore, "from_environment", lambda: None)
    recipes = [
        RecipeToPlan(recipe_id=name, name=name, path=f"s3://ims/{name}", arch="x86_64", boot_files={})
        for name in ("one", "other")
    ]
    plans = run(Input(workspace=Workspace(tmp_path), recipes=recipes))
    assert [plan.verdict for plan in plans] == ["skip", "skip"]
    assert read == [("a repository",)]
