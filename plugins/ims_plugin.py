"""The Airflow plugin: registers the API, the trigger guard and the pages with Airflow.

Every Airflow process loads plugins, only the API server serves them: what they need is imported at the first request.
"""

from __future__ import annotations

import gc
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


async def ims_api(scope: Scope, receive: Receive, send: Send) -> None:
    """The API, as an ASGI application."""
    await _ims_app()(scope, receive, send)


async def ims_sts(scope: Scope, receive: Receive, send: Send) -> None:
    """Temporary S3 credentials, as an ASGI application."""
    from ims.api.sts import build_app

    await build_app()(scope, receive, send)


def ims_trigger_guard(app: ASGIApp) -> ASGIApp:
    """The middleware that checks runs before Airflow creates them."""
    from ims.api.runs.trigger_guard import TriggerGuard

    return TriggerGuard(app)


def ims_root_guard(app: ASGIApp) -> ASGIApp:
    """The middleware that keeps Airflow's page from programs that expect IMS at the root."""
    from ims.api.http.refresh import skip_without_cookie
    from ims.api.http.root import RootGuard

    skip_without_cookie()
    return RootGuard(app)


@cache
def _ims_app() -> ASGIApp:
    from ims.api.app import build_app
    from ims.ui import api_docs, images

    app = build_app(images.router, api_docs.router)
    # Airflow and its libraries are a million objects that stay. A garbage collection that visits them stops every
    # request for half a second.
    gc.collect()
    gc.freeze()
    return app


class ImsPlugin(AirflowPlugin):
    """Image management in Airflow."""

    name = "ims"
    fastapi_apps: list[Any] = [  # noqa: RUF012  (Airflow declares it so)
        {"app": ims_api, "url_prefix": "/apis/ims", "name": "IMS"},
        {"app": ims_sts, "url_prefix": "/apis/sts", "name": "IMS STS"},
    ]
    fastapi_root_middlewares: list[Any] = [  # noqa: RUF012
        {"middleware": ims_trigger_guard, "name": "IMS trigger guard"},
        {"middleware": ims_root_guard, "name": "IMS root guard"},
    ]
    external_views: list[Any] = [  # noqa: RUF012
        {"name": "Images", "href": "/apis/ims/overview", "destination": "nav", "url_route": "images"},
        {"name": "IMS API", "href": "/apis/ims/docs", "destination": "nav", "category": "docs"},
    ]
