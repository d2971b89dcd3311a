"""How far a job is, and about how long the rest takes, if an earlier job tells."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ims.errors import ImsError

if TYPE_CHECKING:
    from ims.client import ImsClient

ENDED = ("success", "error")
"""The statuses of jobs and nights that have ended."""
_STEP_OVER = ("success", "failed", "skipped", "upstream_failed", "removed")
_STEP_RUNNING = ("running", "deferred")
"""A deferred step waits without a process of its own."""
_EARLIER = timedelta(days=30)
"""The age of the oldest image whose job can serve as a model."""


def is_over(step: dict[str, Any]) -> bool:
    """Return whether a step will not run any more."""
    return step["state"] in _STEP_OVER


def is_running(step: dict[str, Any]) -> bool:
    """Return whether a step runs."""
    return step["state"] in _STEP_RUNNING


def has_ended(job: dict[str, Any]) -> bool:
    """Return whether a job and its cleanup have ended."""
    return job["status"] in ENDED and all(is_over(step) for step in job["steps"])


def earlier_job(client: ImsClient, job: dict[str, Any]) -> dict[str, Any] | None:
    """Return the job of the newest image of the same recipe, in any version of the recipe. None if there is none."""
    if job["job_type"] != "create":
        return None  # Scripts and users take as long as they want.
    try:
        recipe = client.get(f"recipes/{job['artifact_id']}")
        versions = client.get("recipes", name=recipe["name"], arch=recipe["arch"])
        since = datetime.fromisoformat(job["created"]) - _EARLIER
        images = client.get("images", arch=recipe["arch"], created_after=since.isoformat())
        recipes, others = {version["id"] for version in versions}, (None, job["id"])
        found = [image for image in images if image["source_recipe_id"] in recipes and image["job_id"] not in others]
        return dict(client.get(f"jobs/{found[-1]['job_id']}")) if found else None
    except ImsError:
        return None  # The job can be followed without an estimate.


def progress(job: dict[str, Any], now: datetime, earlier: dict[str, Any] | None = None) -> str:
    """Return how far a job is, in one line: the step, how long it and the job have run, and an estimate of the rest."""
    steps = job["steps"]
    running = [step for step in steps if is_running(step)]
    total = f"{_clock(_since(job['created'], now))} in total"
    if not running:
        return f"{job['status']}, {total}"
    number = min(sum(is_over(step) for step in steps) + 1, len(steps))
    names = ", ".join(step["name"] for step in running)
    line = f"step {number} of {len(steps)}: {names} {_clock(_since(running[0]['started'], now))}, {total}"
    left = _time_left(running[0], earlier, now) if earlier is not None else None
    return line if left is None else f"{line}, {_rounded(_since(job['created'], now), left)}"


def _time_left(step: dict[str, Any], earlier: dict[str, Any], now: datetime) -> timedelta | None:
    """Return how long a job still takes if its running step and all later ones take as long as they did earlier.

    None if the earlier job did not run the step, or if the step already takes longer than it did there.
    """
    model = next((found for found in earlier["steps"] if found["name"] == step["name"]), None)
    if model is None or not (model["started"] and model["ended"] and step["started"]):
        return None
    started = datetime.fromisoformat(model["started"])
    passed = _since(step["started"], now)
    if passed > datetime.fromisoformat(model["ended"]) - started:
        return None
    return (
        max(datetime.fromisoformat(found["ended"]) for found in earlier["steps"] if found["ended"]) - started - passed
    )


def _rounded(passed: timedelta, left: timedelta) -> str:
    """Return an estimate as text that does not look more precise than it is."""
    percent = 5 * int(20 * passed / (passed + left)) if passed + left else 0
    minutes = round(left / timedelta(minutes=1))
    return f"about {percent} %, {f'about {minutes} min' if minutes else 'less than a minute'} left"


def _since(start: str | None, now: datetime) -> timedelta:
    """Return the time since a start. A clock that is behind the service's does not give a negative time."""
    return max(timedelta(), now - datetime.fromisoformat(start)) if start else timedelta()


def _clock(time: timedelta) -> str:
    minutes, seconds = divmod(int(time.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
