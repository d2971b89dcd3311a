"""`/overview`: the page *Images* in the navigation of the Airflow UI.

It lists open shells, images, nights, recipes and public keys with their ids. Users can finish, extend and give up
shells there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from ims.api.http.auth import may_read
from ims.api.http.services import RecordsService, ShellsService
from ims.api.jobs.views import ARTIFACTS
from ims.api.runs.airflow import AirflowService
from ims.api.runs.lists import visible_jobs
from ims.api.runs.night_views import DescribeNightService
from ims.api.runs.nights import newest as newest_nights
from ims.api.runs.runs import Run
from ims.records.audit import KINDS
from ims.records.models import Image, PublicKey, Recipe, Shell
from ims.records.selection import Selection
from ims.records.shells import Shells
from ims.records.store import Records
from ims.settings import settings
from ims.ui.templating import templates
from ims.workflows import CREATE_IMAGE, CUSTOMIZE_IMAGE

MAX_RECORDS = 200
NIGHTS = 7

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class OpenShell:
    """An open shell.

    `image` is the name of the image that its job creates, `source` the recipe or image it uses, `run_url` the page of
    its run, if the run is known.
    """

    shell: Shell
    image: str
    source: str
    run_url: str | None


@router.get("/overview", dependencies=[may_read()])
async def show_images(
    request: Request,
    records: RecordsService,
    shells: ShellsService,
    airflow: AirflowService,
    describe: DescribeNightService,
) -> HTMLResponse:
    """Show the page."""
    runs = {run.job_id: run for run in await visible_jobs(airflow)}
    nights = [await describe.one(run) for run in await newest_nights(airflow, None, NIGHTS)]
    content = await run_in_threadpool(_content, records, shells, runs)
    return templates.TemplateResponse(request, "images.html", {**content, "nights": nights})


def _content(records: Records, shells: Shells, runs: Mapping[str, Run]) -> dict[str, Any]:
    newest = Selection(newest_first=True, limit=MAX_RECORDS)
    return {
        "shells": [_open_shell(records, shell, runs.get(shell.job_id)) for shell in shells.list_open()],
        "recipes": records.list(Recipe, newest),
        "images": records.list(Image, newest),
        "public_keys": records.list(PublicKey, newest),
        "create_url": f"{settings().ui_url}/dags/{CREATE_IMAGE.dag_id}",
        "customize_url": f"{settings().ui_url}/dags/{CUSTOMIZE_IMAGE.dag_id}",
        "max_records": MAX_RECORDS,
    }


def _open_shell(records: Records, shell: Shell, run: Run | None) -> OpenShell:
    """Adds the names to a shell. `run` is None if the run was deleted, or ended without closing the shell."""
    if run is None:
        return OpenShell(shell, f"job {shell.job_id}", "", None)
    kind = ARTIFACTS[run.job_type]
    source = records.find(kind, str(run.conf.get("artifact_id")))
    origin = f"{KINDS[kind]} {source.name if source else 'unknown'}"
    return OpenShell(shell, run.job.image_root_archive_name, origin, settings().run_url(run.dag_id, run.run_id))
