"""The line of progress of a job, and its estimate of the time that is left."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from ims.cli.progress import earlier_job, progress
from ims.errors import MissingError, UnavailableError
from tests.cli.test_follow import START, job, step


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([step("a", None), step("b", None)], "building_image, 1:15 in total"),
        ([step("a", "running"), step("b", None)], "step 1 of 2: a 1:15, 1:15 in total"),
        ([step("a", "success"), step("b", "running")], "step 2 of 2: b 1:15, 1:15 in total"),
        ([step("a", "skipped", tries=0), step("b", "running"), step("c", "deferred")], "step 2 of 3: b, c 1:15"),
    ],
)
def test_progress(steps: list[dict[str, Any]], text: str) -> None:
    """The number of the step, the steps that run, and how long they and the job have run."""
    assert progress(job(*steps), START + timedelta(seconds=75)).startswith(text)


@pytest.mark.parametrize(("seconds", "text"), [(-5, "0:00"), (59, "0:59"), (3600, "1:00:00"), (90061, "25:01:01")])
def test_elapsed_time(seconds: int, text: str) -> None:
    """A clock that is behind the service's does not give a negative time."""
    assert progress(job(status="creating"), START + timedelta(seconds=seconds)) == f"creating, {text} in total"


def earlier(*durations: tuple[str, int]) -> dict[str, Any]:
    """Return a job whose steps took these seconds, one after the other. A step without seconds did not run."""
    steps, moment = [], START
    for name, seconds in durations:
        ended = moment + timedelta(seconds=seconds)
        times = (moment.isoformat(), ended.isoformat()) if seconds else (None, None)
        steps.append({"name": name, "state": "success", "started": times[0], "ended": times[1]})
        moment = ended
    return job(*steps, status="success")


EARLIER = earlier(("a", 20), ("b", 200), ("shell", 0), ("c", 80))


@pytest.mark.parametrize(
    ("name", "seconds", "text"),
    [
        ("a", 0, "about 0 %, about 5 min left"),
        ("a", 15, "about 5 %, about 5 min left"),
        ("b", 50, "about 15 %, about 4 min left"),
        ("b", 199, "about 70 %, about 1 min left"),
        ("c", 79, "about 95 %, less than a minute left"),
    ],
)
def test_estimate(name: str, seconds: int, text: str) -> None:
    """The running step and the later ones are expected to take as long as in the earlier job."""
    line = progress(job(step(name, "running"), step("z", None)), START + timedelta(seconds=seconds), EARLIER)
    assert line.endswith(f" in total, {text}")


@pytest.mark.parametrize(("name", "seconds"), [("a", 21), ("shell", 1), ("new", 1)])
def test_no_estimate(name: str, seconds: int) -> None:
    """A step that takes longer than in the earlier job, or did not run there, has no known end."""
    line = progress(job(step(name, "running")), START + timedelta(seconds=seconds), EARLIER)
    assert line.endswith(" in total")


@dataclass
class Client:
    """A service with two versions of a recipe and with these images, oldest first."""

    images: list[dict[str, Any]] = field(default_factory=list)
    fault: Exception | None = None

    def get(self, path: str, **query: str) -> Any:
        """Return what the path names."""
        if self.fault is not None:
            raise self.fault
        recipes = {name: {"id": name, "name": "site", "arch": "x86_64"} for name in ("an-older-recipe", "a-recipe")}
        match path.split("/"):
            case ["recipes"]:
                assert query == {"name": "site", "arch": "x86_64"}
                return list(recipes.values())
            case ["recipes", name]:
                return recipes[name]
            case ["images"]:
                assert query == {"arch": "x86_64", "created_after": "2026-10-02T10:00:00+00:00"}
                return self.images
            case ["jobs", name]:
                return {"id": name}
        raise AssertionError(path)


def image(recipe: str | None, job_id: str | None) -> dict[str, Any]:
    """Return the record of an image."""
    return {"source_recipe_id": recipe, "job_id": job_id}


def test_earlier_job() -> None:
    """The newest image of the recipe or of one of its older versions counts, but not that of the job itself."""
    images = [
        image("a-recipe", "first"),
        image("an-older-recipe", "second"),
        image("another-recipe", "third"),
        image("a-recipe", None),
        image("a-recipe", "a-job"),
        image(None, "fourth"),
    ]
    client: Any = Client(images)
    assert earlier_job(client, job()) == {"id": "second"}


def test_no_earlier_job() -> None:
    """A recipe that is built for the first time has none."""
    client: Any = Client()
    assert earlier_job(client, job()) is None


def test_customize_job_has_no_earlier_job() -> None:
    """Scripts and users take as long as they want."""
    client: Any = Client([image("a-recipe", "first")])
    assert earlier_job(client, job() | {"job_type": "customize"}) is None


@pytest.mark.parametrize("fault", [MissingError("deleted"), UnavailableError("restart")])
def test_fault_without_consequence(fault: Exception) -> None:
    """A job is followed without an estimate if the records cannot be read."""
    client: Any = Client([image("a-recipe", "first")], fault)
    assert earlier_job(client, job()) is None
