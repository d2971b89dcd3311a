"""The connection to the cluster, and its errors as ours."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError
from yaml import YAMLError

from ims.errors import ConfigurationError, ImsError, InputError, UnavailableError
from ims.settings import settings

CLUSTER_WAIT_SECONDS = 300
GONE = ("the step's pod is gone", "A user deleted it, or its node is lost")


def core_api() -> client.CoreV1Api:
    """Connect to the cluster that the settings name, or to the one that this process runs in.

    Raises ConfigurationError if neither exists.
    """
    path = settings().kubernetes_config
    try:
        if path is not None:
            return client.CoreV1Api(config.new_client_from_config(str(path)))
        config.load_incluster_config()
    except (ConfigException, OSError, YAMLError) as error:
        where = f"the kubeconfig {path} cannot be used" if path is not None else "this is no pod of a cluster"
        raise ConfigurationError(f"{where}: {error}", "Set IMS_KUBERNETES_CONFIG to a kubeconfig") from None
    return client.CoreV1Api()


def await_cluster(seconds: float = CLUSTER_WAIT_SECONDS) -> None:
    """Wait until the cluster answers, even if it refuses. Raises UnavailableError if it is silent for so long."""
    version, deadline = client.VersionApi(core_api().api_client), time.monotonic() + seconds
    while True:
        try:
            with cluster_errors():
                version.get_code(_request_timeout=10)
            return
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
        except ImsError:
            return
        time.sleep(1)


@contextmanager
def cluster_errors() -> Iterator[None]:
    """Raise the errors of the client as ImsErrors, which say whether another try can help."""
    try:
        yield
    except ApiException as error:
        raise _as_ims_error(error.status, _message(error)) from None
    except (OSError, HTTPError) as error:
        raise UnavailableError(f"the cluster does not answer: {error}") from None


def _as_ims_error(status: int | None, message: str) -> ImsError:
    if status == 403 and "quota" in message:
        return UnavailableError(f"the cluster has no room: {message}", "Wait for other jobs, or raise the quota")
    if status in (401, 403):
        return ConfigurationError(f"the cluster refuses the request: {message}", "See the RBAC rules in deploy/")
    if status == 404 and message.startswith("pods "):
        return UnavailableError(*GONE)
    if status is not None and 400 <= status < 500 and status not in (408, 409, 429):
        return InputError(f"the cluster rejects the request: {message}")
    return UnavailableError(f"the cluster failed: {message}")


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
