"""The environment of the processes of the stack."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ims.errors import ConfigurationError
from ims.pools import total_slots
from ims.settings import GATEWAY_USER, Settings
from ims.stack import postgres
from ims.stack.credentials import TASK_USER, Credentials, find_credentials
from ims.storage.objects import ObjectStore

PROJECT = Path(__file__).resolve().parents[3]

# What the processes inherit from the shell that starts the stack: home, language, proxies and certificates.
INHERITED = (
    "HOME",
    "LANG",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "AIRFLOW_CONN_IMS_NOTIFY",  # the receivers of messages; it contains secrets, so steps do not get it
)


def process_environment(settings: Settings, credentials: Credentials) -> dict[str, str]:
    """Returns the environment of every process of the stack."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    own = {name: value for name, value in os.environ.items() if name.startswith("IMS_")}
    path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        **inherited,
        **own,
        "IMS_HOME": str(settings.home),
        "PATH": path,
        "PYTHONUNBUFFERED": "1",
        **s3_environment(settings, credentials),
        **airflow_environment(settings, credentials),
    }


def s3_environment(settings: Settings, credentials: Credentials) -> dict[str, str]:
    """Returns the variables that S3 clients read: the address of the store and the credentials."""
    if settings.s3_endpoint_url is not None:
        return {
            **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
            "AWS_ENDPOINT_URL": settings.endpoint_url,
        }
    return {
        "AWS_ENDPOINT_URL": settings.endpoint_url,
        "AWS_ACCESS_KEY_ID": credentials.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.s3_secret_key,
        "AWS_REGION": "us-east-1",
    }


def object_store(settings: Settings, attempts: int = 3) -> ObjectStore:
    """Returns S3 with the credentials of the service. Raises ConfigurationError if they are not known here."""
    keys = service_keys(settings)
    secrets = keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], keys.get("AWS_SESSION_TOKEN")
    return ObjectStore.connect(settings.endpoint_url, *secrets, attempts=attempts)


def service_keys(settings: Settings) -> dict[str, str]:
    """Returns the S3 credentials of the service. Raises ConfigurationError if they are not known here."""
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return dict(os.environ)
    if "AIRFLOW_CONN_IMS_S3" in os.environ:  # all that the containers of tasks have
        connection = json.loads(os.environ["AIRFLOW_CONN_IMS_S3"])
        return {"AWS_ACCESS_KEY_ID": connection["login"], "AWS_SECRET_ACCESS_KEY": connection["password"]}
    found = find_credentials(settings) if settings.s3_endpoint_url is None else None
    if found is None:
        raise ConfigurationError(
            "the S3 credentials of the service are not known here", 'Run eval "$(make -s env)" first'
        )
    return s3_environment(settings, found)


def airflow_environment(settings: Settings, credentials: Credentials) -> dict[str, str]:
    """Returns Airflow's configuration; docs/adr/0003-airflow-on-one-machine.md explains the unusual settings."""
    home = settings.home / "airflow"
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": settings.airflow_url,
        "AIRFLOW__API__HOST": settings.host,
        "AIRFLOW__API__PORT": str(settings.port),
        "AIRFLOW__API__SECRET_KEY": credentials.api_secret_key,
        "AIRFLOW__API__WORKERS": str(settings.api_workers),
        "AIRFLOW__API_AUTH__JWT_SECRET": credentials.jwt_secret,
        "AIRFLOW__CORE__AUTH_MANAGER": (
            "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
        ),
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "330",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{settings.airflow_url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "ims.executor.Executor",
        "AIRFLOW__CORE__FERNET_KEY": credentials.fernet_key,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(total_slots(settings)),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(settings.secrets / "passwords.json"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{settings.admin_user}:admin,{TASK_USER}:user,{GATEWAY_USER}:user",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url(settings),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": postgres.url(settings),
        # The log of each task would begin with a DeprecationWarning about Airflow's own code.
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "py.warnings=ERROR",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(settings.home / "logs" / "tasks"),
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        "AIRFLOW_CONN_IMS_API": json.dumps(
            {
                "conn_type": "http",
                "host": settings.airflow_url,
                "login": TASK_USER,
                "password": credentials.task_password,
            }
        ),
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(kubernetes_connection(settings)),
        "AIRFLOW_CONN_IMS_S3": json.dumps(s3_connection(settings, credentials)),
    }


def kubernetes_connection(settings: Settings) -> dict[str, object]:
    """Returns the connection `kubernetes_default`."""
    config = settings.kubernetes_config
    where = {"kube_config_path": str(config)} if config is not None else {"in_cluster": True}
    return {"conn_type": "kubernetes", "extra": {**where, "namespace": settings.kubernetes_namespace}}


def s3_connection(settings: Settings, credentials: Credentials) -> dict[str, object]:
    """Returns the connection `ims_s3`."""
    environment = s3_environment(settings, credentials)
    return {
        "conn_type": "aws",
        "login": environment.get("AWS_ACCESS_KEY_ID"),
        "password": environment.get("AWS_SECRET_ACCESS_KEY"),
        "extra": {
            "endpoint_url": settings.endpoint_url,
            "region_name": environment.get("AWS_REGION", "us-east-1"),
            "verify": environment.get("AWS_CA_BUNDLE") or True,
            "config_kwargs": {
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        },
    }
