"""The template dictionaries that steps get when they start."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseHook, Variable
from airflow.sdk.exceptions import AirflowNotFoundException

from ims import connections
from ims.errors import MissingError
from ims.operators import templates
from ims.operators.templates import no_secrets, with_templates
from ims.steps.step import load_step
from tests.operators.fakes import FakeApi

FETCH, PLAN, BUILD = (load_step(name) for name in ("fetch_recipe", "plan_images", "build_ca_package"))
SECRETS = {"token": "planted"}
RECIPES = [
    {"id": "r1", "template_dictionary": [{"key": "TOKEN", "value": "secret:token"}, {"key": "A", "value": "1"}]},
    {"id": "r2", "template_dictionary": []},
]


@pytest.fixture(autouse=True)
def _api(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API with two recipes."""
    api = FakeApi(**{"recipes": RECIPES, "recipes/r1": RECIPES[0]})
    monkeypatch.setattr(templates, "api_client", lambda: api)


def lookup(names: Iterable[str]) -> dict[str, str]:
    """The secrets of these names."""
    return {name: SECRETS[name] for name in names}


def test_a_job() -> None:
    """The step gets the dictionary of its recipe and the secrets in it."""
    found = with_templates(FETCH, {"workspace": "/w", "recipe_id": "r1", "path": "s3://a/b"}, lookup)
    assert found["templates"] == {"dictionaries": {"r1": {"TOKEN": "secret:token", "A": "1"}}, "secrets": SECRETS}
    variables, secrets = FETCH.input.model_validate(found).templates.resolve("r1")
    assert (variables, secrets.passwords) == ({"TOKEN": "planted", "A": "1"}, ["planted"])


def test_recipe_of_a_job_is_gone() -> None:
    """The job cannot go on."""
    with pytest.raises(MissingError):
        with_templates(FETCH, {"recipe_id": "r9"}, lookup)


def test_a_plan() -> None:
    """The step gets the dictionaries of its recipes; one that was deleted meanwhile does not disturb the others."""
    found = with_templates(PLAN, {"recipes": [{"recipe_id": "r1"}, {"recipe_id": "r9"}]}, lookup)
    assert set(found["templates"]["dictionaries"]) == {"r1"}


def test_pods_get_references() -> None:
    """The Secret is mounted there; the description of the pod does not contain it."""
    assert "planted" not in json.dumps(with_templates(FETCH, {"recipe_id": "r1"}, no_secrets))


def test_other_steps_get_none() -> None:
    """Only steps that render templates need secrets."""
    assert with_templates(BUILD, {"recipe_id": "r1"}, lookup) == {"recipe_id": "r1"}


def test_secrets_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables and connections count only with the prefix: recipes cannot name the connections of the service."""
    variables = {"ims_secret_token": "t", "ims_secret_": "e", "other": "o"}
    logins = {"ims_secret_nexus": SimpleNamespace(login="ci", password="p"), "ims_s3": SimpleNamespace(login="key")}

    def get_connection(name: str) -> Any:
        if name not in logins:
            raise AirflowNotFoundException(name)
        return logins[name]

    monkeypatch.setattr(Variable, "get", lambda name, default: variables.get(name, default))
    monkeypatch.setattr(BaseHook, "get_connection", get_connection)
    names = ("token", "nexus.login", "nexus.password", "nexus.host", "ims_s3.login", "other", "x.login")
    assert connections.recipe_secrets(names) == {"token": "t", "nexus.login": "ci", "nexus.password": "p"}
