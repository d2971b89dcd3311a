"""Steps as services of a real supervisord."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import HttpUrl

from ims import supervisord
from ims.errors import ImsError
from ims.runtime.local import services
from ims.settings import Settings
from ims.stack import lifecycle, supervision
from ims.steps.step import Step, StepInput

pytestmark = pytest.mark.system


def never(step: StepInput) -> None:
    """Never called: no step has this name, so its process ends at once."""


STEP = Step("no_step", StepInput, never)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """An installation in which only supervisord and its listener `revival` run."""
    for name in ("run", "logs", "workspaces"):
        (tmp_path / name).mkdir()
    installation = Settings(home=tmp_path, s3_endpoint_url=HttpUrl("https://s3.example"))
    monkeypatch.setattr(services, "settings", lambda: installation)
    monkeypatch.setattr(supervision, "programs", lambda _: [])
    supervision.start(installation, {"PATH": "/usr/bin:/bin"})
    yield installation
    supervisord.stop(installation)


def start(own: Settings, job_id: str) -> Path:
    """Start the step of a job; returns its workspace."""
    workspace = own.workspaces / job_id
    (workspace / "run").mkdir(parents=True)
    services.start(STEP, {"workspace": str(workspace)})
    return workspace


def test_removed_workspace_stops_nothing_else(own: Settings) -> None:
    """Other services and the stack still start if the workspace of one service was removed."""
    for path in sorted(start(own, "first").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (own.workspaces / "first").rmdir()
    start(own, "second")
    assert set(supervisord.states(own)) == {"revival", "no_step-first", "no_step-second"}
    supervisord.stop(own)
    supervision.start(own, {"PATH": "/usr/bin:/bin"})
    assert set(supervisord.states(own)) == {"revival", "no_step-first", "no_step-second"}
    for job in ("first", "second"):
        services.stop("no_step", job)
    assert set(supervisord.states(own)) == {"revival"}
    assert list(supervisord.services_folder(own).iterdir()) == []


def test_failed_service_does_not_fail_the_stack(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """If supervisord gives up on a service, the stack still counts as alive."""
    monkeypatch.setattr(supervisord, "states", lambda _: {"no_step-first": "FATAL"})
    lifecycle.wait(own, "anything", iter([False, True]).__next__)


def test_stop_fails_if_supervisord_refuses(own: Settings) -> None:
    """The service may still run, so every refusal is an error."""
    (supervisord.services_folder(own) / "broken.conf").write_text("[program:broken]\n")
    with pytest.raises(ImsError, match="supervisord cannot update no_step-first"):
        services.stop("no_step", "first")
