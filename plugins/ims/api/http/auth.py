"""Who may do what: Airflow authenticates, and its rules for the workflow say who may read, run and delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag, resolve_user_from_token
from fastapi import Depends, HTTPException, Request

from ims.api.http.body import check_form
from ims.workflows import CREATE_IMAGE

Permission = Callable[[Request, Any], None]

READ: Permission = requires_access_dag("GET", param_dag_id=CREATE_IMAGE.dag_id)
WRITE: Permission = requires_access_dag("POST", DagAccessEntity.RUN, param_dag_id=CREATE_IMAGE.dag_id)
DELETE: Permission = requires_access_dag("DELETE", DagAccessEntity.RUN, param_dag_id=CREATE_IMAGE.dag_id)


async def caller(request: Request) -> Any | None:
    """Who sent the valid token of a request, as `Authorization: Bearer …` or in the UI's cookie; None without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = request.cookies.get(COOKIE_NAME_JWT_TOKEN, "")
    try:
        return await resolve_user_from_token(token or None)
    except HTTPException:
        return None


def may(permission: Permission, request: Request, user: Any) -> bool:
    """Whether the user has the permission."""
    try:
        permission(request, user)
    except HTTPException:
        return False
    return True


def may_run(dag_id: str) -> Permission:
    """The permission to start a run of a workflow."""
    return requires_access_dag("POST", DagAccessEntity.RUN, param_dag_id=dag_id)


def may_read() -> Any:
    """Whoever may see the workflow may see its recipes, images, keys and jobs."""
    return _allowed(READ)


def may_write() -> Any:
    """Whoever may run the workflow may also make and change what it works on."""
    return _allowed(WRITE)


def may_delete() -> Any:
    """Whoever may delete runs of the workflow may also delete its records."""
    return _allowed(DELETE)


def _allowed(permission: Permission) -> Any:
    """Only who is allowed is told what is wrong with the request."""

    async def check(request: Request, _allowed: None = Depends(permission)) -> None:
        await check_form(request)

    return Depends(check)
