"""The table of settings and the page that is generated from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from ims.settings import Settings, documentation

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_page_is_up_to_date() -> None:
    """`make docs` writes it."""
    assert PAGE.read_text() == documentation()


def test_page_has_every_setting() -> None:
    """One row for each, in the order of the table, with a default that can be set."""
    lines = re.findall(r"^\| `IMS_(\w+)` \| (?:`([^`|]+)`)? \| [^|]+\. \|$", documentation(), re.MULTILINE)
    assert [name.lower() for name, _ in lines] == list(Settings.model_fields)
    Settings.model_validate({name.lower(): default for name, default in lines if default})


@pytest.mark.parametrize("name", Settings.model_fields)
def test_setting_has_a_description(name: str) -> None:
    """It is a whole sentence."""
    description = Settings.model_fields[name].description or ""
    assert re.fullmatch(r"\w.{10,}\.", description)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("IMS_PORT", "0"),
        ("IMS_PORT", "eighty"),
        ("IMS_ALLOWED_NETWORKS", "nexus.example"),
        ("IMS_ALLOWED_NETWORKS", "10.0.0.1/8"),
        ("IMS_S3_PORT", "60000"),
        ("IMS_S3_ENDPOINT_URL", "nexus"),
        ("IMS_SQUASHFS_LEVEL", "23"),
        ("IMS_REPOSITORY_POLL", "0"),
        ("IMS_RUNTIME", "cloud"),
        ("IMS_LOG_LEVEL", "debug"),
        ("IMS_NIGHTLY_SCHEDULE", "1 o'clock"),
        ("IMS_NIGHTLY_SCHEDULE", "0 25 * * *"),
        ("IMS_NIGHTLY_SCHEDULE", "0 1 * * * *"),
        ("IMS_MAINTENANCE_SCHEDULE", "0 0 31 2 *"),
        ("IMS_NIGHTLY_TIMEZONE", "Mars/Olympus"),
        ("IMS_NIGHTLY_PARALLELISM", "0"),
    ],
)
def test_wrong_value_is_rejected(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """The error names the setting."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError, match=variable.removeprefix("IMS_").lower()):
        Settings()


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derived values follow their setting; an empty variable counts as unset."""
    monkeypatch.setenv("IMS_HOME", "/srv/ims")
    monkeypatch.setenv("IMS_HOST", "192.0.2.1")
    monkeypatch.setenv("IMS_PORT", "")
    monkeypatch.setenv("IMS_S3_ENDPOINT_URL", "https://s3.example/")
    monkeypatch.setenv("IMS_CA_CERTIFICATE", "")
    own = Settings()
    assert own.airflow_url == "http://192.0.2.1:8080"
    assert own.records_url == "sqlite:////srv/ims/ims.db"
    assert own.endpoint_url == "https://s3.example"
    assert own.ca_certificate_path == Path("/srv/ims/site-root-ca.pem")
    monkeypatch.delenv("IMS_S3_ENDPOINT_URL")
    monkeypatch.setenv("IMS_S3_PORT", "9000")
    monkeypatch.setenv("IMS_DATABASE_URL", "postgresql://db.example/ims")
    monkeypatch.setenv("IMS_CA_CERTIFICATE", "/etc/site.pem")
    other = Settings()
    assert other.endpoint_url == "http://192.0.2.1:9000"
    assert other.records_url == "postgresql://db.example/ims"
    assert other.ca_certificate_path == Path("/etc/site.pem")
