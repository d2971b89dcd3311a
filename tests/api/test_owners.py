"""Every field has one owner: users, the service, or the API itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from ims.api.catalog.images import ImageIn, ImagePatch
from ims.api.catalog.public_keys import PublicKeyIn
from ims.api.catalog.recipes import RecipeIn, RecipePatch
from ims.api.http.owners import service_fields
from ims.api.jobs.shells import ShellIn
from ims.records.models import Image, PublicKey, Recipe, Shell
from tests.api.offline import TASKS, Offline, application, offline_api
from tests.api.wire import assert_problem

OWNED: dict[type[BaseModel], set[str]] = {
    RecipeIn: {"nightly_failures"},
    RecipePatch: {"nightly_failures"},
    ImageIn: {
        *("job_id", "source_image_id", "source_recipe_id", "changes", "checked", "kernels", "package_count"),
        *("size", "customization_digest", "nightly_failures", "scrubbed", "damage"),
    },
    ImagePatch: {"checked", "nightly_failures", "scrubbed", "damage"},
    PublicKeyIn: set(),
    ShellIn: set(ShellIn.model_fields),
}
# Columns that no request sets: the API derives them, or a request with another purpose changes them.
DERIVED = {"id", "created", "deleted", "purging", "link_path"}
DERIVED_OF_SHELLS = {"job_id", "run_url", "operation", "closed"}
KINDS: tuple[tuple[Any, type[BaseModel], set[str]], ...] = (
    (Recipe, RecipeIn, DERIVED),
    (Image, ImageIn, DERIVED),
    (PublicKey, PublicKeyIn, DERIVED),
    (Shell, ShellIn, DERIVED_OF_SHELLS),
)
JOB = str(uuid4())
SHELL: dict[str, Any] = {
    "dag_id": "customize_image",
    "dag_run_id": JOB,
    "name": "shell",
    "jail": True,
    "host": "192.0.2.1",
    "port": 2022,
    "command": "ssh root@192.0.2.1",
    "fingerprint": "SHA256:abc",
    "until": "2030-01-01T00:00:00Z",
}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[Offline]:
    """The API without Airflow."""
    with offline_api(monkeypatch) as api:
        yield api


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_owners(model: type[BaseModel]) -> None:
    """A change of an owner is a decision: this table repeats the marks of the models."""
    assert service_fields(model) == OWNED[model]


@pytest.mark.parametrize(("kind", "model", "derived"), KINDS, ids=lambda item: getattr(item, "__name__", ""))
def test_every_column_has_an_owner(kind: Any, model: type[BaseModel], derived: set[str]) -> None:
    """A column is set by a field of the request, or the API derives it."""
    columns = {column.name for column in kind.__table__.columns}
    fields = set(model.model_fields) - ({"dag_id", "dag_run_id"} if model is ShellIn else set())
    assert columns - derived == fields


def test_owner_is_documented() -> None:
    """The description of the API names the owner of a field."""
    described = application().openapi()["components"]["schemas"]["ImageIn"]["properties"]["job_id"]
    assert described["description"] == "only the service sets this field"


def test_service_sets_its_fields(offline: Offline) -> None:
    """The tasks store what they found out."""
    identity, source = str(uuid4()), str(uuid4())
    body = {"name": "x", "job_id": JOB, "source_recipe_id": source, "checked": "2026-11-01T01:00:00Z"}
    image = offline.request(TASKS, "PUT", f"/v3/images/{identity}", body)
    assert image.status_code == 200, image.text
    assert {**image.json(), **body} == image.json()
    later = offline.request(TASKS, "PATCH", f"/v3/images/{identity}", {"checked": "2026-11-02T01:00:00Z"})
    assert later.json()["checked"] == "2026-11-02T01:00:00Z"


def test_service_opens_a_shell(offline: Offline) -> None:
    """The API derives the address of the run from its ids."""
    shell = offline.request(TASKS, "PUT", f"/v3/jobs/{JOB}/shell", SHELL)
    assert shell.status_code == 200, shell.text
    assert shell.json()["run_url"].endswith(f"/dags/customize_image/runs/{JOB}")
    other = offline.request(TASKS, "PUT", f"/v3/jobs/{uuid4()}/shell", SHELL)
    assert_problem(other, 422, "dag_run_id")


def test_service_withdraws_a_request(offline: Offline) -> None:
    """A shell that was not finished can be finished or given up later. What was given up stays so."""
    path = f"/v3/jobs/{JOB}/shell"
    offline.request(TASKS, "PUT", path, SHELL)

    def ask(operation: str) -> Any:
        return offline.request("user", "POST", path, {"operation": operation})

    assert ask("complete").json()["operation"] == "complete"
    assert ask("fail").status_code == 409
    assert_problem(offline.request("user", "DELETE", f"{path}/operation"), 403, "operation")
    for operation in ("complete", "fail"):
        assert offline.request(TASKS, "DELETE", f"{path}/operation").status_code == 204
        assert offline.request("user", "GET", path).json()["operation"] is None
        assert ask(operation).json()["operation"] == operation
    assert offline.request(TASKS, "DELETE", f"{path}/operation").status_code == 204
    assert offline.request("user", "GET", path).json()["operation"] == "fail"


def test_address_from_an_early_version_is_hidden(offline: Offline) -> None:
    """A shell whose address a user forged before an upgrade has none."""
    offline.request(TASKS, "PUT", f"/v3/jobs/{JOB}/shell", SHELL)
    offline.shells.change(JOB, lambda shell: setattr(shell, "run_url", "javascript:alert(1)"))
    assert offline.request("user", "GET", f"/v3/jobs/{JOB}/shell").json()["run_url"] == ""


@pytest.mark.parametrize("user", ["user", "admin"])
def test_users_name_their_fields(offline: Offline, user: str) -> None:
    """Users, administrators too, register and change records with their fields. The defaults of others do no harm."""
    image = offline.request(user, "POST", "/v3/images", {"name": "x", "pinned": True, "metadata": {"a": "b"}})
    assert image.status_code == 201
    copy = {name: value for name, value in image.json().items() if name not in ("id", "created")}
    assert offline.request(user, "POST", "/v3/images", copy).status_code == 201
    path = f"/v3/images/{image.json()['id']}"
    assert offline.request(user, "PATCH", path, {"pinned": False}).status_code == 200
