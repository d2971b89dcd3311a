"""Requests of programs that expect IMS at the root, where Airflow answers every address with its page and 200.

Programs that look only at the status, such as the probe of CFS, would take the page for an answer of IMS.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ims.api.http.auth import path_below_root
from ims.api.http.problems import problem_response

_PATHS = ("images", "recipes", "public-keys", "jobs", "deleted", "remote-build-nodes", "v2", "v3")
"""The first parts of the paths of IMS."""


class RootGuard:
    """ASGI middleware around all of Airflow: answers 404 to a program, and lets browsers see Airflow's pages."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on or answers it."""
        if scope["type"] == "http" and _expects_ims(scope):
            detail = f"there is nothing at {scope['path']}; the paths of IMS begin with /apis/ims"
            await problem_response(404, detail)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _expects_ims(scope: Scope) -> bool:
    first = path_below_root(scope).lstrip("/").partition("/")[0]
    return first in _PATHS and "text/html" not in Request(scope).headers.get("accept", "")
