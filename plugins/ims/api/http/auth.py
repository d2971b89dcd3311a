"""Authentication and permissions: Airflow decides both, once for each request."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN, ResourceMethod
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import resolve_user_from_token
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ims.api.errors import OwnerError
from ims.api.http.body import check_form
from ims.api.http.owners import service_fields_in
from ims.api.http.problems import Problem, problem_response
from ims.connections import task_user
from ims.records.audit import actor
from ims.workflows import CREATE_IMAGE

PUBLIC_PATHS = ("/version", "/healthz/ready", "/healthz/live")
CACHE_SECONDS = 3.0
CACHE_SIZE = 1000


@dataclass(frozen=True)
class Permission:
    """A right that Airflow's roles grant on a workflow or, with `entity`, on a part of it such as its runs."""

    method: ResourceMethod
    entity: DagAccessEntity | None = None
    dag_id: str = CREATE_IMAGE.dag_id  # also decides about records

    def is_granted(self, user: Any) -> bool:
        """Asks Airflow's auth manager, which may query its database."""
        return get_auth_manager().is_authorized_dag(
            method=self.method,
            access_entity=self.entity,
            details=DagDetails(id=self.dag_id, team_name=DagModel.get_team_name(self.dag_id)),
            user=user,
        )

    async def __call__(self, request: Request) -> None:
        """Raises Problem: 403 if the caller lacks the permission, 400 for a malformed request.

        Raises OwnerError if a user sends fields of the service. The form is checked last: a caller without the
        permission learns nothing about the request.
        """
        if not await request.state.caller.has(self):
            raise Problem(403, "Forbidden")
        await check_form(request)
        await _check_owners(request)


READ = Permission("GET")
WRITE = Permission("POST", DagAccessEntity.RUN)
DELETE = Permission("DELETE", DagAccessEntity.RUN)
AUDIT = Permission("GET", DagAccessEntity.AUDIT_LOG)


def run_permission(dag_id: str) -> Permission:
    """The permission to start a run of a workflow."""
    return Permission("POST", DagAccessEntity.RUN, dag_id)


def may_read() -> Any:
    """A user who can see the workflow can see its recipes, images, keys and jobs."""
    return Depends(READ)


def may_write() -> Any:
    """A user who can run the workflow can also create and change records."""
    return Depends(WRITE)


def may_delete() -> Any:
    """A user who can delete runs of the workflow can also delete records."""
    return Depends(DELETE)


def may_audit() -> Any:
    """A user who can read Airflow's audit log of the workflow can also read that of the records."""
    return Depends(AUDIT)


def only_service(field: str, hint: str) -> list[Any]:
    """Only the service, which has the permission to write, may send a request, because it sets `field`."""

    async def check(request: Request) -> None:
        if not await request.state.caller.is_service():
            raise OwnerError.of_all([field], hint)

    return [may_write(), Depends(check)]


@dataclass
class Caller:
    """The user whose valid token a request carries."""

    user: Any
    _granted: dict[Permission, bool] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The user's id in Airflow."""
        return str(self.user.get_id())

    @property
    def name(self) -> str:
        """The user's name in Airflow."""
        return str(self.user.get_name())

    async def has(self, permission: Permission) -> bool:
        """Returns whether Airflow grants the permission; asks only once."""
        if permission not in self._granted:
            self._granted[permission] = await run_in_threadpool(permission.is_granted, self.user)
        return self._granted[permission]

    async def is_service(self) -> bool:
        """Returns whether the caller is the user of the tasks."""
        return self.name == await run_in_threadpool(task_user)


async def _check_owners(request: Request) -> None:
    fields = await service_fields_in(request)
    if fields and not await request.state.caller.is_service():
        raise OwnerError.of_all(fields)


class CallerCache:
    """Keeps the callers of valid tokens for a few seconds.

    Airflow looks up in its database, on the event loop, whether a token was revoked: without a cache each request would
    stop all others for the time of that query. The price is that a token still works for up to `seconds` after a
    logout, a change of roles or the end of its lifetime. Invalid tokens are not kept.
    """

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._size = size
        self._entries: dict[str, tuple[float, Caller]] = {}

    def get(self, token: str) -> Caller | None:
        """Returns the caller of a token, or None if it is not in the cache or no longer fresh."""
        added, caller = self._entries.get(token, (0.0, None))
        return caller if caller is not None and time.monotonic() - added < self._seconds else None

    def add(self, token: str, caller: Caller) -> None:
        """Keeps a caller; the oldest entry makes room if the cache is full."""
        self._entries.pop(token, None)
        if len(self._entries) >= self._size:
            del self._entries[next(iter(self._entries))]
        self._entries[token] = (time.monotonic(), caller)


_CALLERS = CallerCache(CACHE_SECONDS, CACHE_SIZE)


async def authenticate(request: Request) -> Caller | None:
    """Returns the caller of a valid token in `Authorization: Bearer …` or the UI's cookie; None without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = request.cookies.get(COOKIE_NAME_JWT_TOKEN, "")
    caller = _CALLERS.get(token)
    if caller is None:
        try:
            caller = Caller(await resolve_user_from_token(token or None))
        except HTTPException:
            return None
        _CALLERS.add(token, caller)
    return caller


def path_below_root(scope: Scope) -> str:
    """Returns the path that an application sees if it is served below another path."""
    root, path = str(scope.get("root_path", "")), str(scope["path"])
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


class AuthMiddleware:
    """Answers 401 unless a request carries a valid token; keeps the caller in the request's state."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on or answers it."""
        if scope["type"] == "http" and path_below_root(scope) not in PUBLIC_PATHS:
            request = Request(scope)
            caller = await authenticate(request)
            if caller is None:
                detail = "no valid token; get one from POST /auth/token and send it as a Bearer token"
                await problem_response(401, detail, headers={"WWW-Authenticate": "Bearer"})(scope, receive, send)
                return
            request.state.caller = caller
            actor.set(caller.name)
        await self.app(scope, receive, send)


async def _current_caller(request: Request) -> Any:
    return request.state.caller


CurrentCaller = Annotated[Caller, Depends(_current_caller)]
