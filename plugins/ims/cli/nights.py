"""`ims nights`: what the scheduled builds did."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from ims.cli.following import JobFailedError
from ims.cli.login import connect
from ims.cli.options import given, group
from ims.cli.output import FormatOption, for_people, say, show_list, show_record
from ims.cli.resources import RECIPES

COLUMNS = ("id", "created", "status", "built", "unchanged", "failed", "reason")
RECIPE_COLUMNS = ("name", "outcome", "seconds", "job_id", "image_id", "why", "reason")
FOLLOW_SECONDS = 2
_ENDED = ("success", "error")

app = group("nights", "Nights, in which the recipes that are marked are built.")

NightId = Annotated[str, typer.Argument(metavar="ID", help="Id of the night.", show_default=False)]
Follow = Annotated[bool, typer.Option("--follow", help="Wait until it has ended; exit code 1 if a recipe failed.")]


@app.command("list")
def list_nights(
    limit: Annotated[int | None, typer.Option(help="How many; 20 if not given.")] = None,
    _format: FormatOption = None,
) -> None:
    """List the newest nights."""
    show_list(connect().get("nights", **given(limit=limit)), COLUMNS)


@app.command()
def describe(identity: NightId, _format: FormatOption = None) -> None:
    """Show what became of each recipe in a night."""
    _show(connect().get(f"nights/{identity}"))


@app.command()
def create(
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="By id or name, marked or not; repeat it. Without: all that are marked."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build also what would come out as it is.")] = False,
    follow: Follow = False,
    _format: FormatOption = None,
) -> None:
    """Build now what is else built by night. While another night runs it waits."""
    client = connect()
    recipes = [RECIPES.identify(client, text) for text in recipe or ()]
    night = client.create("nights", **given(recipes=recipes or None), force=force)
    while follow and night["status"] not in _ENDED:
        say(f"night {night['id']} is {night['status']}: {_progress(night)}")
        time.sleep(FOLLOW_SECONDS)
        night = _next(client, night)
    _show(night)
    if night["status"] == "error":
        raise JobFailedError(f"the night failed: {night['reason']}", f"Its log: {night['log_url']}")


def _next(client: Any, night: dict[str, Any]) -> dict[str, Any]:
    """The night when it has got on."""
    while True:
        found: dict[str, Any] = client.get(f"nights/{night['id']}")
        if (found["status"], _progress(found)) != (night["status"], _progress(night)):
            return found
        time.sleep(FOLLOW_SECONDS)


def _progress(night: dict[str, Any]) -> str:
    building = sum(recipe["outcome"] == "building" for recipe in night["recipes"])
    return f"{night['built']} built, {night['unchanged']} unchanged, {night['failed']} failed, {building} being built"


def _show(night: dict[str, Any]) -> None:
    if not for_people():
        show_record(night)
        return
    show_record({name: value for name, value in night.items() if name not in ("recipes", "paused")})
    for recipe in night["paused"]:
        say(
            f"{recipe['name']} is paused: it failed {recipe['failures']} nights. "
            f"Go on: ims recipes update {recipe['recipe_id']} --nightly True"
        )
    if night["recipes"]:
        print()
        show_list(night["recipes"], RECIPE_COLUMNS)
