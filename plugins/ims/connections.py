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
from ims.storage.clients import client, client_config
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
    return ObjectStore(_client("s3", client_config(settings().endpoint_url)))


def token_service() -> Any:
    """The client of the object store's token service, which issues temporary credentials."""
    from ims.storage.sessions import token_config

    return _client("sts", token_config())


def _client(service: str, config: Any) -> Any:
    """A client with the credentials of the connection. Raises ConfigurationError if it has none.

    Not that of the hook's `get_conn`, which parses the descriptions of the services each time, and reads the source of
    the whole call stack to tell S3 who calls: together 0.15 s of a processor. But only that one refreshes credentials.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook  # it takes a second to import

    hook: AwsGenericHook[Any] = AwsGenericHook(aws_conn_id=S3_CONNECTION, client_type=service, config=config)
    found = hook.get_session().get_credentials()
    if found is None:
        raise ConfigurationError(f"the connection {S3_CONNECTION} has no credentials", "Set its login and its password")
    if hasattr(found, "refresh_needed"):
        return hook.get_conn()
    url = hook.conn_config.get_service_endpoint_url(service_name=service)
    return client(service, url, found.get_frozen_credentials(), config, region=hook.region_name, verify=hook.verify)


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
