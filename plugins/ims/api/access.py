"""Who may do what: Airflow authenticates, and its rules for the workflow say who may read, run and delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag, resolve_user_from_token
from fastapi import Depends, HTTPException, Request

from ims.api.requests import check_form

WORKFLOW = "create_image"


async def is_known(request: Request) -> bool:
    """Whether a request carries a valid token of Airflow's, as `Authorization: Bearer …` or in the UI's cookie."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = request.cookies.get(COOKIE_NAME_JWT_TOKEN, "")
    try:
        await resolve_user_from_token(token or None)
    except HTTPException:
        return False
    return True


def may_read() -> Any:
    """Whoever may see the workflow may see its recipes, images, keys and jobs."""
    return _allowed(requires_access_dag("GET", param_dag_id=WORKFLOW))


def may_write() -> Any:
    """Whoever may run the workflow may also make and change what it works on."""
    return _allowed(requires_access_dag("POST", DagAccessEntity.RUN, param_dag_id=WORKFLOW))


def may_delete() -> Any:
    """Whoever may delete runs of the workflow may also delete its records."""
    return _allowed(requires_access_dag("DELETE", DagAccessEntity.RUN, param_dag_id=WORKFLOW))


def _allowed(required: Callable[..., Any]) -> Any:
    """Only who is allowed is told what is wrong with the request."""

    async def check(request: Request, _allowed: None = Depends(required)) -> None:
        await check_form(request)

    return Depends(check)
