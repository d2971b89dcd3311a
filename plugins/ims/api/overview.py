"""`/overview`: a page in the Airflow UI that lists what there is, with the ids that the trigger form asks for.

Open shells can be finished, given up and extended there.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates

from ims.api.access import may_read
from ims.api.services import RecordsService, ShellsService
from ims.records.models import Image, PublicKey, Recipe
from ims.records.selection import Selection
from ims.settings import settings

SHOWN = 200

router = APIRouter()
templates = Jinja2Templates(Path(__file__).parent)


@router.get("/overview", dependencies=[may_read()], include_in_schema=False)
def overview(request: Request, records: RecordsService, shells: ShellsService) -> HTMLResponse:
    """The open shells, and the newest recipes, images and public keys."""
    newest = Selection(newest_first=True, limit=SHOWN)
    return templates.TemplateResponse(
        request,
        "overview.html",
        {
            "shells": shells.list_open(),
            "recipes": records.list(Recipe, newest),
            "images": records.list(Image, newest),
            "public_keys": records.list(PublicKey, newest),
            "workflows": f"{settings().airflow_url}/dags",
            "shown": SHOWN,
        },
    )
