"""Keeps requests without cookies away from the middleware of Airflow that renews the cookie of its UI.

That middleware runs each request in a task of its own, which takes longer than to find an image. It does nothing for
requests without the cookie: programs, such as the tasks of jobs, send a token in a header.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from airflow.api_fastapi.auth.middlewares.refresh_token import JWTRefreshMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import Receive, Scope, Send


async def _call(middleware: BaseHTTPMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
    has_cookie = any(name == b"cookie" for name, _ in scope.get("headers", ()))
    call = partial(BaseHTTPMiddleware.__call__, middleware) if has_cookie else middleware.app
    await call(scope, receive, send)


def skip_without_cookie() -> None:
    """Changes the middleware in this process. Airflow has no setting for it."""
    changed: Any = JWTRefreshMiddleware
    changed.__call__ = _call
