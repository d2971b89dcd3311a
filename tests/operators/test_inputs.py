"""The inputs of a task are compared with its step when the DAG is parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, XComArg

from ims.errors import InputError
from ims.operators.inputs import check_inputs, is_template
from ims.operators.local import LocalStepOperator
from ims.operators.step import map_step

CORRECT: dict[str, Any] = {"workspace": "/work", "arch": "x86_64", "boot_files": {"initrd_file_name": "initrd"}}


def test_correct_inputs() -> None:
    """A step has fields with defaults, too."""
    check_inputs("resolve_packages", CORRECT)
    check_inputs("plan_images", {"workspace": "/work", "recipes": []})


WRONG = {
    "unknown field": ({**CORRECT, "architecture": "x86_64"}, "architecture is unknown"),
    "missing field": ({"workspace": "/work", "boot_files": {}}, "arch is missing"),
    "wrong type": ({**CORRECT, "arch": 64}, "arch: Input should be a valid string"),
    "wrong type inside": ({**CORRECT, "boot_files": {"kernel": 1}}, "boot_files: Input should be a valid string"),
    "two mistakes": ({"workspace": "/work", "a": 1}, "a is unknown; arch is missing; boot_files is missing"),
}


@pytest.mark.parametrize(("inputs", "reason"), WRONG.values(), ids=WRONG)
def test_wrong_inputs(inputs: dict[str, Any], reason: str) -> None:
    """The error names step and field."""
    with pytest.raises(InputError) as caught:
        check_inputs("resolve_packages", inputs)
    assert caught.value.reason == f"the inputs of the step resolve_packages are wrong: {reason}"


def test_templates_are_not_checked() -> None:
    """Their values are not known when the DAG is parsed."""
    with DAG("probe") as dag:
        first = LocalStepOperator(task_id="resolve_packages", inputs=CORRECT)
    inputs = {"workspace": "{{ params.where }}", "arch": dag.param("arch", 1), "boot_files": XComArg(first)}
    check_inputs("resolve_packages", inputs)
    check_inputs("resolve_packages", {**CORRECT, "boot_files": {"kernel": dag.param("kernel", 1)}})


@pytest.mark.parametrize(
    ("value", "expected"),
    [("plain", False), ("{{ x }}", True), (["{% if x %}"], True), ({"a": ("{{ x }}",)}, True), (Path("/"), False)],
)
def test_is_template(value: Any, expected: bool) -> None:
    """Strings with Jinja in them, at any depth. A path has a method `resolve` of its own, which means nothing here."""
    assert is_template(value) is expected


def test_task_with_wrong_inputs_cannot_be_made() -> None:
    """So the DAG does not parse, and Airflow shows the reason."""
    with pytest.raises(InputError, match="arch is missing"):
        LocalStepOperator(task_id="resolve_packages", inputs={"workspace": "/work", "boot_files": {}})


def test_mapped_task_with_wrong_inputs_cannot_be_made() -> None:
    """Airflow itself creates a mapped operator only when it runs."""
    with DAG("probe"), pytest.raises(InputError, match="image_id is missing; image_name is missing; job_id is missing"):
        map_step("upload_artifacts", each=[{"artifacts": []}], inputs={"workspace": "/work"})


def test_step_that_does_not_exist() -> None:
    """A task has the name of its step."""
    with pytest.raises(InputError, match="no step 'bake_cake'"):
        LocalStepOperator(task_id="bake_cake", inputs={})
