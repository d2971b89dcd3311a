"""`/overview`: a page in the Airflow UI that lists what there is, with the ids that the trigger form asks for."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates

from ims.api.access import may_read
from ims.api.services import RecordsService
from ims.records.models import Image, PublicKey, Recipe
from ims.settings import settings

SHOWN = 200

router = APIRouter()
templates = Jinja2Templates(Path(__file__).parent)


@router.get("/overview", dependencies=[may_read()], include_in_schema=False)
def overview(request: Request, records: RecordsService) -> HTMLResponse:
    """The newest recipes, images and public keys."""
    return templates.TemplateResponse(
        request,
        "overview.html",
        {
            "recipes": records.list(Recipe)[: -SHOWN - 1 : -1],
            "images": records.list(Image)[: -SHOWN - 1 : -1],
            "public_keys": records.list(PublicKey)[: -SHOWN - 1 : -1],
            "workflow": f"{settings().airflow_url}/dags/create_image",
            "shown": SHOWN,
        },
    )
