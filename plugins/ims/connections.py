"""The services that tasks use, from the Airflow connections `ims_api` and `ims_s3`."""

from __future__ import annotations

from airflow.sdk import BaseHook

from ims.client import ImsClient
from ims.storage.objects import ObjectStore

API_CONNECTION = "ims_api"
S3_CONNECTION = "ims_s3"


def api_client() -> ImsClient:
    """The API, as the user of the tasks."""
    connection = BaseHook.get_connection(API_CONNECTION)
    return ImsClient.login(str(connection.host), str(connection.login), str(connection.password))


def object_store() -> ObjectStore:
    """The object store."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook  # it takes a second to import

    return ObjectStore(S3Hook(aws_conn_id=S3_CONNECTION).get_conn())
