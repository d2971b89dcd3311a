"""`PUT /apis/sts/token`: S3 credentials, as the gateway of Cray System Management returns them to `cray artifacts`.

The service never returns its own credentials: callers get only credentials that the store limits in time and to the
permissions of the caller.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from ims import __version__
from ims.api.http import problems
from ims.api.http.auth import DELETE, WRITE, AuthMiddleware, CurrentCaller, may_read
from ims.api.http.body import BodyMiddleware
from ims.api.http.headers import HeadersMiddleware
from ims.api.http.problems import Problem
from ims.settings import settings
from ims.storage import sessions

router = APIRouter()


class SessionCredentials(BaseModel):
    """The credentials and address for an S3 client, under the names that clients of IMS expect."""

    AccessKeyId: str
    SecretAccessKey: str
    SessionToken: str
    EndpointURL: str
    Expiration: datetime


class SessionToken(BaseModel):
    """The answer."""

    Credentials: SessionCredentials


@router.put("/token", status_code=201, dependencies=[may_read()], response_model=SessionToken)
async def get_token(caller: CurrentCaller) -> dict[str, Any]:
    """Get S3 credentials for the buckets of recipes and images, limited in time and to the permissions of the caller.

    Only users who can create records can write objects, and only users who can delete jobs can delete objects.
    """
    if not settings().sts:
        raise Problem(501, "this service does not issue S3 credentials (IMS_STS); ask the administrator for some")
    actions = [*sessions.READ]
    actions += sessions.WRITE if await caller.has(WRITE) else ()
    actions += sessions.DELETE if await caller.has(DELETE) else ()
    # On Ceph, callers can remove the limits of a session from its token. Those of the role stay.
    reads = actions == [*sessions.READ]
    role = settings().sts_read_role_arn if reads else settings().sts_role_arn
    if not role:
        variable = "IMS_STS_READ_ROLE" if reads else "IMS_STS_ROLE"
        raise Problem(501, f"there is no role for which S3 credentials can be issued to you: set {variable}")
    grants = (sessions.LIST_BUCKETS, sessions.of_buckets(settings().buckets, actions))
    given = await run_in_threadpool(sessions.session_credentials, role, caller.id, settings().sts_seconds, grants)
    return {"Credentials": {**given, "EndpointURL": settings().endpoint_url}}


@cache
def build_app() -> FastAPI:
    """Returns the application, which is made at the first request."""
    app = FastAPI(title="Temporary S3 credentials", version=__version__, docs_url=None, redoc_url=None)
    problems.install(app)
    app.add_middleware(BodyMiddleware)
    app.add_middleware(AuthMiddleware)
    app.add_middleware(HeadersMiddleware)
    app.include_router(router)
    return app
