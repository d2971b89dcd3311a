"""The tasks of a night, against a service that answers from memory."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from ims.errors import MissingError
from ims.operators import nights, plan
from ims.operators.nights import ChooseBuildsOperator, SummarizeOperator

RUN = "3f0f8f0a-0000-4000-8000-000000000001"


class Client:
    """Answers GETs of some paths, and remembers PATCHes."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.updates: list[tuple[str, dict[str, Any]]] = []

    def get(self, path: str, **_query: Any) -> Any:
        """The answer for a path."""
        if path not in self.answers:
            raise MissingError(path)
        return self.answers[path]

    def record(self, kind: str, identity: str) -> Any:
        """A record, deleted or not."""
        return next(record for record in self.answers[kind] if record["id"] == identity)

    def update(self, path: str, **fields: Any) -> None:
        """Remembers the change."""
        self.updates.append((path, fields))


class TaskInstance:
    """Keeps what a task pushes."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        """Keeps a value."""
        self.pushed[key] = value


def recipe(identity: str, name: str = "a", failures: int = 0, *, nightly: bool = True) -> dict[str, Any]:
    """A recipe as the API describes it."""
    return {
        "id": identity,
        "name": name,
        "arch": "x86_64",
        "nightly": nightly,
        "nightly_failures": failures,
        "link": {"path": f"s3://ims/{identity}"},
        "template_dictionary": [],
    }


def in_night(identity: str, outcome: str, failures: int) -> dict[str, Any]:
    """A recipe of `GET /nights/{id}`."""
    return {"recipe_id": identity, "name": f"name-{identity}", "outcome": outcome, "failures": failures}


def context() -> Any:
    """The context of a task."""
    return {"run_id": RUN, "ti": TaskInstance()}


def use(monkeypatch: pytest.MonkeyPatch, client: Client) -> Client:
    """Let the operators call this client."""
    monkeypatch.setattr(nights, "api_client", lambda: client)
    return client


def summarize(client: Client, recipes: list[dict[str, Any]], *, known: list[dict[str, Any]]) -> None:
    """Let the service know a night and all recipes."""
    client.answers |= {f"nights/{RUN}": {"recipes": recipes, "paused": []}, "recipes": known}


def test_choose_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes whose image is current are not built, and the image is marked as checked."""
    client = use(monkeypatch, Client(recipes=[recipe("1"), recipe("2", failures=1), recipe("3")]))
    chosen = [{"recipe_id": identity} for identity in "123"]
    plans = [
        {"recipe_id": "1", "verdict": "skip", "image_id": "image"},
        {"recipe_id": "2", "verdict": "build", "image_id": "old"},
    ]
    builds = ChooseBuildsOperator(task_id="x", recipes=chosen, plans=plans).execute(context())
    assert [(build["recipe_id"], build["failures"]) for build in builds] == [("2", 1), ("3", 0)]
    assert [path for path, _ in client.updates] == ["images/image"]


def test_recipes_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the result of `choose_recipes` both tasks fail for good, and so does the night."""
    use(monkeypatch, Client())
    for operator in (
        ChooseBuildsOperator(task_id="x", recipes=None, plans=None),
        SummarizeOperator(task_id="y", builds=None),
    ):
        with pytest.raises(AirflowFailException):
            operator.execute(context())


def test_summarize_counts_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only counts that changed are written; recipes that reach the limit are paused."""
    client = use(monkeypatch, Client())
    recipes = [in_night("1", "built", 0), in_night("2", "failed", 2), in_night("3", "unchanged", 0)]
    known = [recipe("1", "a", 1), recipe("2", "b", 1), recipe("3", "c"), recipe("4", "d", 1)]
    summarize(client, recipes, known=known)
    run = context()
    with pytest.raises(AirflowFailException, match="1 of 3 recipes failed: name-2"):
        SummarizeOperator(task_id="x", builds=[]).execute(run)
    assert client.updates == [("recipes/1", {"nightly_failures": 0}), ("recipes/2", {"nightly_failures": 2})]
    kept = run["ti"].pushed["return_value"]
    assert [item["outcome"] for item in kept["recipes"]] == ["built", "failed", "unchanged"]
    assert kept["paused"] == [{"recipe_id": "2", "name": "b", "failures": 2}]


def test_summarize_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another try of the task counts nothing twice."""
    client = use(monkeypatch, Client())
    summarize(client, [in_night("1", "built", 0)], known=[recipe("1")])
    summary = SummarizeOperator(task_id="x", builds=[]).execute(context())
    assert client.updates == []
    assert summary["recipes"][0]["recipe_id"] == "1"


def test_due_recipes() -> None:
    """Of the due recipes of a lineage only the newest is chosen; paused and unmarked ones are not."""
    known = [recipe("1"), recipe("2"), recipe("3", "b", 9), recipe("4", "c", nightly=False), recipe("5", "d")]
    client: Any = Client(recipes=known)
    assert [found["id"] for found in plan._due_recipes(client)] == ["2", "5"]
