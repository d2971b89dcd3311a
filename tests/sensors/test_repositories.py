"""The task that waits until all repositories of the recipe are available."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from ims.errors import ConfigurationError, ImsError, InputError, UnavailableError
from ims.recipes.availability import Answer
from ims.recipes.description import Repository
from ims.sensors import repositories
from ims.sensors.repositories import RepositoriesSensor
from ims.settings import settings
from ims.triggers.repositories import RepositoriesTrigger
from ims.workflows import WAITS_FOR
from tests.operators.fakes import make_context, xcoms

URL = "https://mirror.test/os"
REPOSITORIES = [{"url": URL, "metadata_url": f"{URL}/repodata/repomd.xml"}]


def wait(monkeypatch: pytest.MonkeyPatch, **answer: Any) -> Any:
    """Run the task; each repository gives this answer."""

    async def ask_all(asked: Sequence[Repository], _certificate: object) -> list[Answer]:
        return [Answer(repository, **answer) for repository in asked]

    monkeypatch.setattr(repositories, "ask_all", ask_all)
    context = make_context()
    try:
        RepositoriesSensor(task_id="wait_for_repositories", repositories=REPOSITORIES, timeout=60).execute(context)
    except TaskDeferred:
        assert xcoms(context) == {WAITS_FOR: f"waiting up to 60 s for {URL} ({answer['text']})"}
        raise
    except AirflowFailException:
        return xcoms(context)["failure"]
    return None


def test_all_are_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task ends at once."""
    assert wait(monkeypatch, ready=True, text="200") is None


def test_one_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """The triggerer continues to ask until the timeout of the job, counted from now."""
    with pytest.raises(TaskDeferred) as deferred:
        wait(monkeypatch, ready=False, text="503")
    trigger = deferred.value.trigger
    assert isinstance(trigger, RepositoriesTrigger)
    assert trigger.repositories == REPOSITORIES
    assert trigger.interval == settings().repository_poll
    assert 50 < trigger.until - time.time() <= 60


def test_login_is_unknown() -> None:
    """A repository that wants the login of the recipe is available: only steps of the job have the login."""
    repository = Repository(URL, f"{URL}/repodata/repomd.xml", needs_login=True)
    assert repository.lacks_login
    assert not Repository(URL, URL).lacks_login


def test_one_refuses_access(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting cannot help."""
    reason = wait(monkeypatch, ready=False, text="401", final=True)
    assert reason.startswith("repositories that refuse access: ")


def test_wait_has_ended_well() -> None:
    """The job continues."""
    context = make_context()
    RepositoriesSensor(task_id="wait_for_repositories", repositories=REPOSITORIES, timeout=60).resume(context, {})
    assert not xcoms(context)


@pytest.mark.parametrize(
    ("error", "blames_recipe"), [(UnavailableError, False), (ConfigurationError, False), (InputError, True)]
)
def test_wait_has_failed(error: type[ImsError], blames_recipe: bool) -> None:
    """The job ends. Its recipe is to blame only if the repositories cannot be as it names them."""
    context = make_context()
    sensor = RepositoriesSensor(task_id="wait_for_repositories", repositories=REPOSITORIES, timeout=60)
    event = {"error": "os is not available", "hint": "Check the server", "exit_code": error.exit_code}
    with pytest.raises(AirflowFailException):
        sensor.resume(context, event)
    assert xcoms(context)["failure"] == "os is not available. Check the server"
    assert ("environment_failed" in xcoms(context)) is not blames_recipe
