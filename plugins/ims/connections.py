"""The services that tasks use, from the Airflow connections `ims_api` and `ims_s3`, and the secrets of recipes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from airflow.sdk import BaseHook, Variable
from airflow.sdk.exceptions import AirflowNotFoundException

from ims.client import ImsClient
from ims.errors import ConfigurationError
from ims.settings import settings
from ims.storage.clients import client_config
from ims.storage.objects import ObjectStore

API_CONNECTION = "ims_api"
S3_CONNECTION = "ims_s3"


def api_client() -> ImsClient:
    """The API, as the user of the tasks."""
    connection = BaseHook.get_connection(API_CONNECTION)
    return ImsClient.login(str(connection.host), str(connection.login), str(connection.password))


@cache
def task_user() -> str:
    """The name of the user of the tasks. Raises ConfigurationError if this process does not know the connection."""
    try:
        return str(BaseHook.get_connection(API_CONNECTION).login)
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"the API server has no connection {API_CONNECTION}", "Give it the connection of the tasks"
        ) from None


def object_store() -> ObjectStore:
    """The object store."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook  # it takes a second to import

    config = client_config(settings().endpoint_url)
    return ObjectStore(S3Hook(aws_conn_id=S3_CONNECTION, config=config).get_conn())


def token_service() -> Any:
    """The client of the object store's token service, which issues temporary credentials."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    from ims.storage.sessions import token_config

    return AwsGenericHook(aws_conn_id=S3_CONNECTION, client_type="sts", config=token_config()).get_conn()


RECIPE_PREFIX = "ims_secret_"
"""Recipes may use only the Airflow Variables and connections whose names start like this."""


def recipe_secrets(names: Iterable[str]) -> dict[str, str]:
    """The values of those secrets that exist: of the Airflow Variable `ims_secret_NAME` for each name.

    The names `X.login` and `X.password` may also be parts of the connection `ims_secret_X`. Airflow masks the values in
    the log of the task.
    """
    return {name: value for name in names if (value := _recipe_secret(name)) is not None}


def _recipe_secret(name: str) -> str | None:
    value = Variable.get(RECIPE_PREFIX + name, default=None)
    if value is not None:
        return str(value)
    connection, _, part = name.rpartition(".")
    if not connection or part not in ("login", "password"):
        return None
    try:
        found = getattr(BaseHook.get_connection(RECIPE_PREFIX + connection), part)
    except AirflowNotFoundException:
        return None
    return str(found) if found else None
