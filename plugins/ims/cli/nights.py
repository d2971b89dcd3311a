"""`ims nights`: the nightly builds."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from ims.cli.following import JobFailedError
from ims.cli.login import connect
from ims.cli.options import complete_records, given, group
from ims.cli.output import FormatOption, for_people, say, show_list, show_record
from ims.cli.progress import ENDED
from ims.cli.resources import RECIPES

COLUMNS = ("id", "created", "status", "built", "unchanged", "failed", "result", "reason")
IMAGE_COLUMNS = ("name", "outcome", "job_id", "image_id", "parent_id", "why", "reason")
RECIPE_COLUMNS = ("name", "outcome", "seconds", "job_id", "image_id", "why", "reason")
FOLLOW_SECONDS = 2

app = group("nights", "Manage nightly builds.")

NightId = Annotated[str, typer.Argument(metavar="ID", help="Id of the night.", show_default=False)]
Follow = Annotated[
    bool,
    typer.Option("--follow", help="Wait until the night has ended. The exit code is 1 if a recipe or image failed."),
]


@app.command("list")
def list_nights(
    limit: Annotated[int | None, typer.Option(help="Number of nights. The default is 20.")] = None,
    _format: FormatOption = None,
) -> None:
    """List the newest nights."""
    show_list(connect().get("nights", **given(limit=limit)), COLUMNS)


@app.command()
def describe(identity: NightId, _format: FormatOption = None) -> None:
    """Show the result of each recipe and customized image in a night."""
    _show(connect().get(f"nights/{identity}"))


@app.command()
def create(
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="Id or name of a recipe. Can be given several times. The default is all nightly recipes.",
            autocompletion=complete_records(RECIPES.path),
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Make all images again, even if they would be identical, and install all packages again.",
        ),
    ] = False,
    follow: Follow = False,
    _format: FormatOption = None,
) -> None:
    """Start a nightly build now. It waits while another one runs."""
    client = connect()
    recipes = [RECIPES.identify(client, text) for text in recipe or ()]
    night = client.create("nights", **given(recipes=recipes or None), force=force)
    while follow and night["status"] not in ENDED:
        say(f"night {night['id']} is {night['status']}: {_progress(night)}")
        time.sleep(FOLLOW_SECONDS)
        night = _next(client, night)
    _show(night)
    if night["status"] == "error":
        raise JobFailedError(f"the night failed: {night['reason']}", f"Read its log: {night['log_url']}")


def _next(client: Any, night: dict[str, Any]) -> dict[str, Any]:
    """Return the next state of the night that differs from the last one."""
    while True:
        found: dict[str, Any] = client.get(f"nights/{night['id']}")
        if (found["status"], _progress(found)) != (night["status"], _progress(night)):
            return found
        time.sleep(FOLLOW_SECONDS)


def _progress(night: dict[str, Any]) -> str:
    building = sum(item["outcome"] == "building" for item in (*night["recipes"], *night.get("images", ())))
    return f"{night['built']} built, {night['unchanged']} unchanged, {night['failed']} failed, {building} being built"


def _show(night: dict[str, Any]) -> None:
    if not for_people():
        show_record(night)
        return
    lists = ("recipes", "paused", "images", "paused_images")
    show_record({name: value for name, value in night.items() if name not in lists})
    for recipe in night["paused"]:
        say(
            f"{recipe['name']} is paused because it failed {recipe['failures']} nights in a row. "
            f"To resume it: ims recipes update {recipe['recipe_id']} --nightly True"
        )
    for image in night.get("paused_images", ()):
        say(
            f"{image['name']} is paused because it failed {image['failures']} nights in a row. "
            f"To resume it: ims images update {image['image_id']} --nightly True"
        )
    if night["recipes"]:
        print()
        show_list(night["recipes"], RECIPE_COLUMNS)
    if night.get("images"):
        print()
        show_list(night["images"], IMAGE_COLUMNS)
