"""Steps as programs: `python -m ims.steps NAME --result FILE`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ims.errors import InputError
from ims.steps.__main__ import run
from ims.steps.step import load_step
from tests.flows.rpm_repository import PrivateCA


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    result: dict[str, Any]
    output: str


def start(folder: Path, name: str, data: str, **environment: str) -> Ended:
    """Run a step. `result` is empty if the step wrote none."""
    result = folder / "result.json"
    done = subprocess.run(
        [sys.executable, "-m", "ims.steps", name, "--result", result],
        input=data,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not list(folder.glob("*.partial"))
    return Ended(done.returncode, json.loads(result.read_text()) if result.exists() else {}, done.stdout + done.stderr)


@pytest.mark.system
def test_result_is_written_as_json(tmp_path: Path, private_ca: PrivateCA) -> None:
    """The log is printed."""
    data = json.dumps({"workspace": str(tmp_path), "package_manager": "apt"})
    ended = start(tmp_path, "build_ca_package", data, IMS_CA_CERTIFICATE=str(private_ca.certificate))
    assert ended.code == 0, ended.output
    assert Path(ended.result["result"]).is_file()
    assert "build_ca_package took" in ended.output


BAD_INPUT = {
    "not JSON": ("nonsense", "Invalid JSON"),
    "empty": ("", "Invalid JSON"),
    "not an object": ("[]", "object"),
    "field missing": ('{"workspace": "/tmp"}', "package_manager: Field required"),
    "field unknown": ('{"workspace": "/tmp", "package_manager": "apt", "more": 1}', "more: Extra inputs"),
    "wrong type": ('{"workspace": "/tmp", "package_manager": 1}', "package_manager: Input should be a valid string"),
}


@pytest.mark.parametrize(("data", "reason"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input(data: str, reason: str) -> None:
    """The error names the step and the field."""
    with pytest.raises(InputError) as caught:
        run(load_step("build_ca_package"), data)
    assert caught.value.reason.startswith("the input of build_ca_package is invalid: ")
    assert reason in caught.value.reason


def test_bad_input_of_a_program(tmp_path: Path) -> None:
    """The exit code is 65, and the error is written as JSON and printed."""
    ended = start(tmp_path, "build_ca_package", "nonsense")
    assert ended.code == os.EX_DATAERR
    assert set(ended.result) == {"error", "hint"}
    assert ended.result["error"] in ended.output


def test_error_has_its_own_exit_code(tmp_path: Path) -> None:
    """The exit code 78 stands for errors of the configuration."""
    data = json.dumps({"workspace": str(tmp_path), "package_manager": "apt"})
    ended = start(tmp_path, "build_ca_package", data, IMS_CA_CERTIFICATE=str(tmp_path / "gone.pem"))
    assert ended.code == os.EX_CONFIG
    assert str(tmp_path / "gone.pem") in ended.result["error"]
    assert "IMS_CA_CERTIFICATE" in ended.result["hint"]


@pytest.mark.parametrize("name", ["nonsense", "step", "build_host", "..errors", "a.b", ""])
def test_unknown_step(name: str) -> None:
    """There is no such module, or the module is not a step."""
    with pytest.raises(InputError, match=f"no step {name!r}"):
        load_step(name)


def test_unknown_step_of_a_program(tmp_path: Path) -> None:
    """The exit code says that another try cannot help."""
    ended = start(tmp_path, "nonsense", "{}")
    assert ended.code == os.EX_DATAERR
    assert "'nonsense'" in ended.result["error"]
    assert "Traceback" not in ended.output
