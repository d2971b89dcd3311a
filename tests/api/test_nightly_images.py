"""The mark `nightly` of customized images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.api.offline import TASKS, Offline, offline_api
from tests.api.wire import assert_problem

DIGEST = "0" * 64


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[Offline]:
    """The API without Airflow."""
    with offline_api(monkeypatch) as api:
        yield api


def registered(offline: Offline, name: str = "site", digest: str | None = DIGEST, **fields: Any) -> dict[str, Any]:
    """Registers an image as a job does; returns it."""
    link = {"path": offline.store.put_image()}
    body = {"name": name, "customization_digest": digest, "link": link, **fields}
    answer = offline.request(TASKS, "PUT", f"/v3/images/{uuid4()}", body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def mark(offline: Offline, image: dict[str, Any], *, nightly: bool, user: str = "user") -> Any:
    """Marks an image as a user, or removes the mark; returns the answer."""
    return offline.request(user, "PATCH", f"/v3/images/{image['id']}", {"nightly": nightly})


def test_mark_passes_to_the_next_image(offline: Offline) -> None:
    """The newest image of a name has the mark, unless a recipe, a shell or another architecture made it."""
    first = registered(offline)
    assert not first["nightly"]
    assert mark(offline, first, nightly=True).json()["nightly"]
    assert not registered(offline, source_recipe_id=str(uuid4()), digest=None)["nightly"]
    assert not registered(offline, arch="aarch64")["nightly"]
    assert not registered(offline, "another")["nightly"]
    second = registered(offline)
    assert second["nightly"]
    mark(offline, second, nightly=False)
    assert not registered(offline)["nightly"]


def test_image_of_a_shell_ends_the_line(offline: Offline) -> None:
    """It cannot be made again, and an older script must not replace what a person made."""
    mark(offline, registered(offline), nightly=True)
    by_shell = registered(offline, digest=None)
    assert not by_shell["nightly"]
    assert_problem(mark(offline, by_shell, nightly=True), 422, "nightly")
    assert not registered(offline)["nightly"]


def test_mark_resumes(offline: Offline) -> None:
    """Only the service counts failed nights; the mark resets the count."""
    image = registered(offline)
    path = f"/v3/images/{image['id']}"
    assert_problem(offline.request("user", "PATCH", path, {"nightly_failures": 3}), 403, "nightly_failures")
    assert offline.request(TASKS, "PATCH", path, {"nightly_failures": 3}).json()["nightly_failures"] == 3
    assert mark(offline, image, nightly=True).json()["nightly_failures"] == 0
    assert mark(offline, image, nightly=False, user="viewer").status_code == 403
