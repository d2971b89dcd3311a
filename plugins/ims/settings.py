"""The one table of settings, read from `IMS_*` environment variables. docs/settings.md is made from it.

`python -m ims.settings` prints that page.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal
from zoneinfo import available_timezones

from pydantic import Field, HttpUrl, field_validator
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict

EMBEDDED_ROLE = "arn:aws:iam::role/ims"
_CRON = r"^(none|@(hourly|daily|weekly|monthly)|[^\s]+( [^\s]+){4})$"


class Settings(BaseSettings):
    """What an installation can choose."""

    model_config = SettingsConfigDict(env_prefix="IMS_", frozen=True, env_ignore_empty=True)

    home: Path = Field(
        Path("/var/lib/ims"), description="Folder of all state: databases, objects, logs, secrets, workspaces, caches."
    )
    host: str = Field("127.0.0.1", description="Address the API, the UI and the embedded S3 listen on.")
    port: int = Field(8080, ge=1, le=65535, description="Port of the API and the Airflow UI.")
    public_url: HttpUrl | None = Field(
        None, description="URL at which people reach the UI, where it is not `http://IMS_HOST:IMS_PORT`."
    )
    s3_port: int = Field(
        8333, ge=1, le=55535, description="Port of the embedded S3 (its own gRPC port is 10000 higher)."
    )
    s3_internal_port: int = Field(
        9300, ge=1, le=55000, description="First of four ports that the embedded S3 uses for its own parts."
    )
    s3_endpoint_url: HttpUrl | None = Field(
        None, description="S3 to use instead of the embedded one; credentials then come from AWS_* variables."
    )
    recipes_bucket: str = Field("ims", description="Bucket of the recipe archives.")
    images_bucket: str = Field("boot-images", description="Bucket of the image artifacts.")
    sts: bool = Field(True, description="Whether `PUT /apis/sts/token` gives out S3 credentials, limited in time.")
    sts_role: str = Field(
        "", description="ARN of the role in `IMS_S3_ENDPOINT_URL` whose rights these have; the embedded S3 has its own."
    )
    sts_seconds: int = Field(3600, ge=900, le=43200, description="How long such credentials are good.")
    database_url: str = Field("", description="SQLAlchemy URL of the records; empty means SQLite below `IMS_HOME`.")
    admin_user: str = Field("admin", description="Name of the administrator in the UI and the API.")
    runtime: Literal["local", "kubernetes"] = Field(
        "local", description="Where steps run: `local` is processes on this machine, `kubernetes` pods."
    )
    kubernetes_config: Path | None = Field(
        None, description="kubeconfig of the cluster; empty where the service runs in the cluster itself."
    )
    kubernetes_namespace: str = Field("ims", description="Namespace of the jobs' pods and volumes.")
    kubernetes_image: str = Field(
        "localhost/ims-builder:0.1.0", description="Container image of the steps, made by `make containers`."
    )
    kubernetes_storage_class: str | None = Field(
        None, description="Storage class of the jobs' volumes; empty means the cluster's default."
    )
    kubernetes_s3_secret: str = Field(
        "ims-s3", description="Secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` for the steps."
    )
    kubernetes_ca_config_map: str = Field("ims-site-ca", description="ConfigMap with the site's root CA as `ca.crt`.")
    kubernetes_shell_service: Literal["ClusterIP", "LoadBalancer", "NodePort"] = Field(
        "ClusterIP", description="Type of the service that a shell is reached by."
    )
    kubernetes_shell_annotations: dict[str, str] = Field(
        default_factory=dict, description="Annotations of that service, as JSON; for external-dns or MetalLB."
    )
    kubernetes_node_selector: dict[str, str] = Field(
        default_factory=dict, description="Labels of the nodes for steps, as JSON."
    )
    kubernetes_tolerations: list[dict[str, Any]] = Field(
        default_factory=list, description="Tolerations of the steps' pods, as JSON."
    )
    kubernetes_runtime_class: str = Field("", description="Runtime class of the steps' pods.")
    kubernetes_keep_failed: bool = Field(
        False, description="Keep the pods of failed steps to be looked at, for `IMS_ORPHAN_HOURS`."
    )
    kubernetes_resources: dict[str, dict[str, dict[str, str]]] = Field(
        default_factory=dict,
        description='Requests and limits by step, as JSON: `{"build_image": {"limits": {"memory": "8Gi"}}}`.',
    )
    parallelism: int = Field(4, ge=1, description="Tasks that may run at the same time.")
    max_create_jobs: int = Field(
        16, ge=1, description="Create jobs that may run at the same time; others wait in the order in which they came."
    )
    max_customize_jobs: int = Field(
        64, ge=1, description="Customize jobs, open shells among them, that may run at the same time; others wait."
    )
    ca_certificate: Path | None = Field(
        None,
        description="Root CA certificate of the site (PEM); installed in every image. Empty: one is made at start.",
    )
    recipe_max_mib: int = Field(1024, ge=1, description="Largest size of an unpacked recipe, in MiB.")
    recipe_max_files: int = Field(20000, ge=1, description="Most files in a recipe.")
    repository_timeout: int = Field(500, ge=1, description="Seconds to wait for the repositories of a recipe.")
    repository_poll: float = Field(
        10, gt=0, description="Seconds between two questions to a repository that is not ready."
    )
    nightly_pause_after: int = Field(
        3, ge=1, description="Nights in a row after which a recipe that fails is paused, until it is marked again."
    )
    build_env_size: int = Field(
        4, ge=1, description="Free space that a job needs, in GiB, unless the job says otherwise."
    )
    squashfs_level: int = Field(6, ge=1, le=22, description="zstd level of the rootfs: 3 is faster, 15 is smaller.")
    squashfs_processors: int = Field(0, ge=0, description="Processors that mksquashfs uses; 0 means all.")
    squashfs_memory_mib: int = Field(256, ge=64, description="Memory that mksquashfs uses, in MiB.")
    retention_keep_last: int = Field(
        0, ge=0, description="Images that stay of each recipe, whatever their age; 0 means all, for ever."
    )
    retention_keep_days: int = Field(
        30, ge=0, le=36500, description="Days that every image stays, whatever came after it; 0 means for ever."
    )
    retention_all_images: bool = Field(
        False,
        description="Whether that holds for images too that were customized or registered by hand, by their names.",
    )
    retention_tombstone_days: int = Field(
        7, ge=0, le=36500, description="Days that what was deleted can be undeleted; 0 means for ever."
    )
    orphan_hours: int = Field(
        24, ge=1, le=876000, description="Hours after which what nobody needs counts as left behind."
    )
    cache_gib: int = Field(
        20, ge=0, description="GiB that the caches of packages, package roots and images may take after a clean-up."
    )
    maintenance_schedule: str = Field(
        "0 4 * * *",
        pattern=_CRON,
        description="When what nobody needs is cleaned up, as a cron expression; `none` for never by itself.",
    )
    nightly_schedule: str = Field(
        "0 1 * * *",
        pattern=_CRON,
        description="When recipes marked `nightly` are built, as a cron expression; `none` for never by itself.",
    )
    nightly_parallelism: int = Field(2, ge=1, le=1000, description="Builds that a night runs at the same time.")
    nightly_timezone: str = Field("UTC", description="Time zone of both schedules, as `Europe/Berlin`.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")

    @field_validator("nightly_timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"there is no time zone {name}")
        return name

    @property
    def records_url(self) -> str:
        """SQLAlchemy URL of the records."""
        return self.database_url or f"sqlite:///{self.home / 'ims.db'}"

    @property
    def endpoint_url(self) -> str:
        """URL of the S3 service."""
        return str(self.s3_endpoint_url or f"http://{self.host}:{self.s3_port}").rstrip("/")

    @property
    def sts_role_arn(self) -> str:
        """The role whose rights temporary S3 credentials have; empty if there is none."""
        return EMBEDDED_ROLE if self.s3_endpoint_url is None else self.sts_role

    @property
    def airflow_url(self) -> str:
        """URL of the UI on this machine; the API is at `/apis/ims` below it."""
        return f"http://{self.host}:{self.port}"

    @property
    def ui_url(self) -> str:
        """URL of the UI, for people."""
        return str(self.public_url or self.airflow_url).rstrip("/")

    def run_url(self, dag_id: str, run_id: str) -> str:
        """The UI's page of a run."""
        return f"{self.ui_url}/dags/{dag_id}/runs/{run_id}"

    @property
    def ca_certificate_path(self) -> Path:
        """The site's root CA certificate."""
        return self.ca_certificate or self.home / "site-root-ca.pem"

    @property
    def workspaces(self) -> Path:
        """Folder with one workspace a job."""
        return self.home / "workspaces"

    @property
    def secrets(self) -> Path:
        """Folder of credentials, mode 0700."""
        return self.home / "secrets"


@cache
def settings() -> Settings:
    """The settings of this process.

    Raises pydantic.ValidationError: a variable holds a value that cannot be used.
    """
    return Settings()


def documentation() -> str:
    """The settings as a Markdown page."""
    rows = ["| Variable | Default | Meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "", PydanticUndefined) else f"`{field.default}`"
        rows.append(f"| `IMS_{name.upper()}` | {default} | {field.description} |")
    table = "\n".join(rows)
    return (
        "# Settings\n\nMade from `plugins/ims/settings.py` by `make docs`. Every setting is an environment variable,"
        " read when a process starts:\n`make down`, set it, `make up`.\n\n" + table + "\n"
    )


if __name__ == "__main__":
    print(documentation(), end="")
