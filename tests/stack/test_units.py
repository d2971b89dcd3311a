"""The systemd units of the stack."""

from __future__ import annotations

import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest
from pydantic import HttpUrl

from ims.errors import ConfigurationError
from ims.settings import Settings
from ims.stack import supervision, units
from ims.stack.credentials import ensure_credentials


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """An installation."""
    return Settings(home=tmp_path)


def parsed(text: str) -> RawConfigParser:
    """A unit. Its options keep their case."""
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return parser


def test_each_process_has_a_unit(own: Settings) -> None:
    """It starts again after any end, however often, and the target starts all at boot."""
    found = units.units(own)
    processes = [units.unit_of(program.name) for program in supervision.programs(own)] + ["ims-shells.service"]
    for name in processes:
        unit = parsed(found[name])
        assert (unit["Service"]["Restart"], unit["Unit"]["StartLimitIntervalSec"]) == ("always", "0"), name
    target = parsed(found["ims.target"])
    assert set(processes) < set(target["Unit"]["Wants"].split()) == set(found) - {"ims.target"}
    assert target["Install"]["WantedBy"] == "multi-user.target"


def test_no_process_stops_with_another(own: Settings) -> None:
    """systemd would restart a unit together with one that it requires."""
    for name, text in units.units(own).items():
        assert not {"Requires", "BindsTo", "Requisite"} & set(parsed(text)["Unit"]), name


def test_tasks_outlive_a_killed_scheduler(own: Settings) -> None:
    """systemd would otherwise end them with it."""
    assert [name for name, text in units.units(own).items() if "KillMode" in text] == ["ims-scheduler.service"]
    assert parsed(units.units(own)["ims-scheduler.service"])["Service"]["KillMode"] == "process"


def test_units_follow_the_settings(own: Settings) -> None:
    """Without the embedded S3 and with a gateway, for example."""
    other = Settings(home=own.home, s3_endpoint_url=HttpUrl("https://s3.example"), gateway="127.0.0.1:8081")
    assert set(units.units(own)) - set(units.units(other)) == {"ims-s3.service"}
    assert set(units.units(other)) - set(units.units(own)) == {"ims-gateway.service"}


def test_variables(own: Settings) -> None:
    """The settings of the shell are kept, those with quotes as well; secrets of the stack are not in the units."""
    given = {"IMS_STEP_SECONDS": '{"build_image": 1}', "HOME": "/root", "OTHER": "x", "IMS_HOME": "elsewhere"}
    assert units.variables(own, given).splitlines() == [
        "HOME=/root",
        f"IMS_HOME={own.home}",
        "IMS_STEP_SECONDS='{\"build_image\": 1}'",
    ]
    secrets = ensure_credentials(own).model_dump().values()
    assert not any(secret in text for text in units.units(own).values() for secret in secrets)


def test_variables_of_clients(own: Settings) -> None:
    """What `make env` exports is not kept; the keys of an own S3 are, and values with quotes and line breaks."""
    given = {"IMS_TOKEN": "secret", "IMS_URL": "http://x", "AWS_ACCESS_KEY_ID": "k", "IMS_TEXT": "a\n'b\" c"}
    text = "'a\n'\"'\"'b\" c'"
    assert units.variables(own, given) == f"IMS_HOME={own.home}\nIMS_TEXT={text}\n"
    other = Settings(home=own.home, s3_endpoint_url=HttpUrl("https://s3.example"))
    assert "AWS_ACCESS_KEY_ID=k\n" in units.variables(other, given)


def test_saved_variables(own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read as they were written; before the first installation, there are none."""
    monkeypatch.setattr(units, "VARIABLES", tmp_path / "environment")
    assert units.saved_variables() == {}
    given = {"IMS_TEXT": "a\n'b\" c=d", "IMS_HOME": str(own.home)}
    units.VARIABLES.write_text(units.variables(own, given))
    assert units.saved_variables() == given


def test_unknown_program(own: Settings) -> None:
    """It is named."""
    with pytest.raises(ConfigurationError, match="there is no program nothing"):
        units.run(own, "nothing")


def test_no_systemd(own: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is written."""
    monkeypatch.setattr(units, "FOLDER", tmp_path / "units")
    monkeypatch.setattr(units, "RUNNING", tmp_path / "none")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ConfigurationError, match="systemd does not run on this machine"):
        units.install(own)
    assert not (tmp_path / "units").exists()


@pytest.mark.system
def test_systemd_accepts_the_units(own: Settings, tmp_path: Path) -> None:
    """It knows every option. What it says about other units of the machine does not count."""
    folder = tmp_path / "units"
    folder.mkdir()
    for name, text in units.units(own).items():
        (folder / name).write_text(text)
    verify = ["systemd-analyze", "verify", "--recursive-errors=no", *map(str, sorted(folder.iterdir()))]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    names = [path.name for path in folder.iterdir()]
    assert (done.returncode, [line for line in done.stderr.splitlines() if any(map(line.__contains__, names))]) == (
        0,
        [],
    )
