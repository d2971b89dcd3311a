"""`/docs`: the documentation of the API, by Swagger UI. Its files come from a package, so it needs no Internet."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from ims.api.http.auth import may_read
from ims.ui.templating import templates

MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "png": "image/png"}
File = Literal["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"]

router = APIRouter(include_in_schema=False)


@router.get("/docs", dependencies=[may_read()])
def show_api_docs(request: Request) -> HTMLResponse:
    """Show the page."""
    return templates.TemplateResponse(request, "api_docs.html")


@router.get("/docs/{file}", dependencies=[may_read()])
def get_swagger_file(file: File) -> Response:
    """Return a file of Swagger UI."""
    content = files("fastapi_swagger.resources").joinpath(file).read_bytes()
    headers = {"Cache-Control": "private, max-age=86400"}
    return Response(content, media_type=MEDIA_TYPES[file.rpartition(".")[2]], headers=headers)
