"""The settings of an installation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from ims.settings import Settings, settings


def test_variables_are_read(configure: Callable[..., None]) -> None:
    """Numbers, paths and JSON are parsed. An empty variable counts as missing."""
    configure(
        port="18080", home="/srv/ims", step_seconds='{"build_image": "60"}', kubernetes_tolerations="[{}]", host=""
    )
    own = settings()
    assert (own.port, own.home, own.host) == (18080, Path("/srv/ims"), "127.0.0.1")
    assert (own.step_seconds, own.kubernetes_tolerations) == ({"build_image": 60}, [{}])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("port", "http", "valid integer"),
        ("step_seconds", "{build_image: 60}", "key must be a string"),
        ("step_seconds", "60", "valid dictionary"),
        ("step_seconds", '{"build_image": 0}', "greater than 0"),
        ("runtime", "podman", "'local' or 'kubernetes'"),
        ("nightly_timezone", "Europe/Atlantis", "no time zone Europe/Atlantis"),
    ],
)
def test_invalid_variables_are_refused(configure: Callable[..., None], name: str, text: str, message: str) -> None:
    """The error names the setting and says what is wrong."""
    configure(**{name: text})
    with pytest.raises(ValidationError, match=message) as caught:
        settings()
    assert caught.value.errors()[0]["loc"][0] == name


def test_given_values_come_before_variables(configure: Callable[..., None]) -> None:
    """Code may set some values; the variables still decide about the others."""
    configure(port="18080", s3_port="18333")
    own = Settings(port=9090)
    assert (own.port, own.s3_port) == (9090, 18333)


def test_settings_cannot_be_changed() -> None:
    """They are those of the process. A wrong name is an error."""
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Settings(), "port", 1)  # noqa: B010
    with pytest.raises(ValidationError, match="Extra inputs"):
        Settings.model_validate({"prot": 1})
