"""`/overview`: a page in the Airflow UI that lists what there is, with the ids that the trigger form asks for.

Open shells can be finished, given up and extended there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from starlette.concurrency import run_in_threadpool

from ims.api.http.auth import may_read
from ims.api.http.services import RecordsService, ShellsService
from ims.api.runs.airflow import AirflowService
from ims.api.runs.night_views import DescribeNightService
from ims.api.runs.nights import newest as nights_of
from ims.records.models import Image, PublicKey, Recipe
from ims.records.selection import Selection
from ims.records.shells import Shells
from ims.records.store import Records
from ims.settings import settings

SHOWN = 200
NIGHTS = 7

router = APIRouter()
templates = Jinja2Templates(Path(__file__).parent)


@router.get("/overview", dependencies=[may_read()], include_in_schema=False)
async def overview(
    request: Request,
    records: RecordsService,
    shells: ShellsService,
    airflow: AirflowService,
    describe: DescribeNightService,
) -> HTMLResponse:
    """The open shells, and the newest recipes, images, public keys and nights."""
    nights = [await describe.one(run) for run in await nights_of(airflow, None, NIGHTS)]
    known = await run_in_threadpool(_known, records, shells)
    return templates.TemplateResponse(request, "overview.html", {**known, "nights": nights})


def _known(records: Records, shells: Shells) -> dict[str, Any]:
    newest = Selection(newest_first=True, limit=SHOWN)
    return {
        "shells": shells.list_open(),
        "recipes": records.list(Recipe, newest),
        "images": records.list(Image, newest),
        "public_keys": records.list(PublicKey, newest),
        "workflows": f"{settings().ui_url}/dags",
        "shown": SHOWN,
    }
