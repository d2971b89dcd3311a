"""The task that reads the objects of images."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ims.errors import ConfigurationError, MissingError, UnavailableError
from ims.operators import scrub
from ims.operators.scrub import ScrubImagesOperator, due
from ims.storage.scrub import OutOfTimeError
from tests.operators.fakes import FakeApi, make_context

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def image(name: str, days: float | None = None, damage: str | None = None, **fields: Any) -> dict[str, Any]:
    """An image that was read so many days ago."""
    scrubbed = None if days is None else (NOW - timedelta(days=days)).isoformat()
    link = {"path": f"s3://boot-images/{name}/manifest.yaml", "type": "s3"}
    return {
        "id": name,
        "name": name,
        "created": NOW.isoformat(),
        "link": link,
        "scrubbed": scrubbed,
        "damage": damage,
        **fields,
    }


def test_order() -> None:
    """Those that were not read for longest come first. Damaged ones are read each time, others once a week."""
    images = [image("week", 8), image("new"), image("day", 1), image("bad", 0.5, "gone"), image("month", 30)]
    images += [image("empty", link=None)]
    assert [found["id"] for found in due(images, NOW)] == ["new", "month", "week", "bad"]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """The API, which knows three images: the objects of `bad` are damaged, and S3 is away for `away`."""
    found = FakeApi(images=[image("good"), image("bad"), image("deleted")])

    def damage(_store: object, link: str, _buckets: object, _pace: object) -> list[str]:
        errors = {"away": UnavailableError("S3 does not answer"), "large": OutOfTimeError("it is large", "Set X")}
        kind = link.split("/")[3]
        if kind in errors:
            raise errors[kind]
        return ["a is gone", "b is gone"] if kind == "bad" else []

    monkeypatch.setattr(scrub, "api_client", lambda: found)
    monkeypatch.setattr(scrub, "object_store", lambda: None)
    monkeypatch.setattr(scrub, "damaged_objects", damage)
    monkeypatch.setattr(scrub, "check_buckets", lambda _store, _buckets: None)
    return found


def run() -> Any:
    """Run the task."""
    return ScrubImagesOperator(task_id="scrub_images").execute(make_context("image_maintenance"))


def test_results_are_in_the_records(api: FakeApi) -> None:
    """An image that was deleted meanwhile is not damaged."""
    api.failures["images/deleted"] = MissingError("there is no image")
    assert run() == {"read": 2, "damaged": ["bad"]}
    said = {path: fields["damage"] for _, path, fields in api.changes}
    assert said == {"images/good": "", "images/bad": "a is gone; b is gone"}
    assert all(fields["scrubbed"] for _, _, fields in api.changes)


def test_next_run_goes_on(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time is over, the task ends, and what it read so far is kept."""
    monkeypatch.setattr(scrub, "RUN_SECONDS", -1)
    assert run() == {"read": 0, "damaged": []}
    assert not api.changes


def test_s3_is_away(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task fails at once, and marks nothing."""

    def refuse(_store: object, _buckets: object) -> None:
        raise ConfigurationError("S3 refuses access to the bucket ims")

    monkeypatch.setattr(scrub, "check_buckets", refuse)
    api.answers["images"] = [image("away"), image("good")]
    with pytest.raises(AirflowFailException, match="S3 refuses access to the bucket ims"):
        run()
    assert not api.changes


def test_others_are_read(api: FakeApi) -> None:
    """An image that cannot be checked is not marked. The task reads the others, and then fails with its name."""
    api.answers["images"] = [image("away"), image("good"), image("bad")]
    with pytest.raises(AirflowException, match=r"1 images were not checked: away \(away\): S3 does not answer"):
        run()
    assert [path for _, path, _ in api.changes] == ["images/good", "images/bad"]


def test_too_large_image(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not marked, the log says what to set, and the others are read."""
    monkeypatch.setattr(ScrubImagesOperator, "log", log := Mock())
    api.answers["images"] = [image("large"), image("good")]
    assert run() == {"read": 1, "damaged": []}
    assert [path for _, path, _ in api.changes] == ["images/good"]
    (said,) = [call.args[0] % call.args[1:] for call in log.warning.call_args_list]
    assert said == "image large (large) was not checked: it is large. Set X"


def test_disabled(api: FakeApi, configure: Callable[..., None]) -> None:
    """Nothing is read."""
    configure(scrub_mib=0)
    assert run() == {"read": 0, "damaged": []}
    assert not api.changes
