"""All settings of an installation, read from `IMS_*` environment variables.

`python -m ims.settings` prints docs/settings.md.
"""

from __future__ import annotations

import os
import re
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticUndefined, from_json

EMBEDDED_ROLE = "arn:aws:iam::role/ims"
EMBEDDED_READ_ROLE = "arn:aws:iam::role/ims-read"
GATEWAY_USER = "ims-gateway"
"""The user as whom the gateway sends requests."""
_CRON = re.compile(r"@(hourly|daily|weekly|monthly)|[^\s]+( [^\s]+){4}")


_PLACE = re.compile(r"(/[A-Za-z0-9._+-]+){1,20}")


def _items(text: str) -> tuple[str, ...]:
    """The items of a list that is separated by commas."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


_JSON = BeforeValidator(lambda given: from_json(given) if isinstance(given, str) else given)
"""The variable contains JSON."""


def _check_cron(cron: str) -> None:
    """Raises ValueError if it is no cron expression that Airflow can follow."""
    from croniter import CroniterError, croniter  # takes 50 ms to import, and few processes need it

    try:
        if _CRON.fullmatch(cron) is None:
            raise ValueError("write five fields, such as 0 1 * * *, or none")
        croniter(cron).get_next()
    except (CroniterError, ValueError) as error:
        raise ValueError(f"{cron!r} is not a cron expression: {error}") from None


class Settings(BaseModel):
    """One field for each environment variable; the prefix is `IMS_`. An empty variable counts as missing.

    The library pydantic-settings does the same. A job starts about 15 processes, and each needs 0.05 s to import it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(
        Path("/var/lib/ims"),
        description="Folder of all state: databases, objects, logs, secrets, workspaces and caches. It should not be "
        "below `/tmp` or `/var/tmp`.",
    )
    host: str = Field("127.0.0.1", description="Address that the API, the UI and the embedded S3 listen on.")
    port: int = Field(8080, ge=1, le=65535, description="Port of the API and the Airflow UI.")
    api_workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Number of processes of the API server on one machine. Each can use one processor, needs "
        "about 0.3 GB of memory, and keeps up to 15 connections to the database of records.",
    )
    public_url: HttpUrl | None = Field(
        None, description="URL of the UI for people, if it is not `http://IMS_HOST:IMS_PORT`."
    )
    gateway: str = Field(
        "",
        pattern=r"^(\S+:[0-9]{1,5})?$",
        description="Address `host:port` of a gateway for CFS and BOS, which send no token: whoever reaches it can "
        "customize and tag images. If empty, there is none. See [Coming from IMS](coming-from-ims.md#cfs-and-bos).",
    )
    shell_ports: str = Field(
        "10000-17999",
        pattern=r"^[0-9]{1,5}-[0-9]{1,5}$",
        description="Ports of the shells of jobs on this machine, `first-last`.",
    )
    s3_port: int = Field(8333, ge=1, le=55535, description="Port of the embedded S3. Its gRPC port is 10000 higher.")
    s3_internal_port: int = Field(
        9300, ge=1, le=55000, description="First of the four ports that the components of the embedded S3 use."
    )
    s3_endpoint_url: HttpUrl | None = Field(
        None, description="S3 service to use instead of the embedded one. Credentials then come from `AWS_*` variables."
    )
    recipes_bucket: str = Field("ims", description="Bucket for recipe archives.")
    images_bucket: str = Field("boot-images", description="Bucket for image artifacts.")
    sts: bool = Field(
        True, description="Whether steps and the clients of `PUT /apis/sts/token` get temporary S3 credentials."
    )
    sts_role: str = Field(
        "",
        description="ARN of the role in `IMS_S3_ENDPOINT_URL` that they assume. The embedded S3 has a role of its own. "
        "Without a role, steps use the credentials of the service.",
    )
    sts_read_role: str = Field(
        "",
        description="ARN of a role that can only read. Callers who may not write get their credentials from it, and so "
        "do steps that only read. On Ceph, a caller can remove the limits of a session, but not those of its role.",
    )
    sts_seconds: int = Field(3600, ge=900, le=43200, description="Lifetime of temporary S3 credentials, in seconds.")
    database_url: str = Field("", description="SQLAlchemy URL of the records database. If empty, SQLite in `IMS_HOME`.")
    admin_user: str = Field("admin", description="Name of the administrator in the UI and the API.")
    runtime: Literal["local", "kubernetes"] = Field(
        "local", description="Where steps run: `local` as processes on this machine, `kubernetes` as pods."
    )
    kubernetes_config: Path | None = Field(
        None, description="Path of the kubeconfig. Leave it empty if the service runs inside the cluster."
    )
    kubernetes_namespace: str = Field("ims", description="Namespace for the pods and volumes of jobs.")
    kubernetes_image: str = Field(
        "localhost/ims-builder:0.4.0", description="Container image of the steps, built by `make containers`."
    )
    kubernetes_storage_class: str | None = Field(
        None, description="Storage class of the volumes of jobs. If empty, the default of the cluster."
    )
    kubernetes_s3_secret: str = Field(
        "ims-s3",
        description="Secret with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, for steps that get no "
        "temporary credentials.",
    )
    kubernetes_recipe_secret: str = Field(
        "ims-recipe-secrets", description="Secret with the secrets that recipes may use. It need not exist."
    )
    kubernetes_ca_config_map: str = Field(
        "ims-site-ca", description="ConfigMap with the root CA certificate of the site, in the key `ca.crt`."
    )
    kubernetes_shell_service: Literal["ClusterIP", "LoadBalancer", "NodePort"] = Field(
        "ClusterIP", description="Type of the Service in front of a shell."
    )
    kubernetes_shell_annotations: Annotated[dict[str, str], _JSON] = Field(
        default_factory=dict, description="Annotations of that Service, as JSON; for external-dns or MetalLB."
    )
    kubernetes_node_selector: Annotated[dict[str, str], _JSON] = Field(
        default_factory=dict, description="Node labels that the pods of steps require, as JSON."
    )
    kubernetes_tolerations: Annotated[list[dict[str, Any]], _JSON] = Field(
        default_factory=list, description="Tolerations of the pods of steps, as JSON."
    )
    kubernetes_runtime_class: str = Field("", description="Runtime class of the pods of steps.")
    kubernetes_keep_failed: bool = Field(
        False, description="Whether the pods of failed steps are kept for inspection, for `IMS_ORPHAN_HOURS`."
    )
    kubernetes_resources: Annotated[dict[str, dict[str, dict[str, str]]], _JSON] = Field(
        default_factory=dict,
        description='Resources of each step, as JSON: `{"build_image": {"limits": {"memory": "8Gi"}}}`.',
    )
    parallelism: int = Field(
        4,
        ge=1,
        description="Maximum number of builds that run at the same time. Packing, scripts, shells, plans and "
        "clean-up have pools of their own.",
    )
    step_seconds: Annotated[dict[str, PositiveInt], _JSON] = Field(
        default_factory=dict,
        description='Time limits of tasks that are not the default, in seconds, as JSON: `{"build_image": 43200}`.',
    )
    run_seconds: Annotated[dict[str, PositiveInt], _JSON] = Field(
        default_factory=dict,
        description='Time limits of runs that are not the default, in seconds, as JSON: `{"nightly_images": 86400}`.',
    )
    max_create_jobs: int = Field(
        16,
        ge=1,
        description="Maximum number of create jobs that run at the same time. Further jobs wait in order of arrival.",
    )
    max_customize_jobs: int = Field(
        64, ge=1, description="Maximum number of customize jobs, including open shells, that run at the same time."
    )
    ca_certificate: Path | None = Field(
        None,
        description="Root CA certificate of the site (PEM), installed in every image. If empty, the service makes one.",
    )
    ca_places: str = Field(
        "",
        description="Further files of images that contain this certificate, separated by commas, for services that look"
        " for it there: `/etc/cray/ca/certificate_authority.crt`.",
    )
    allowed_networks: str = Field(
        "",
        description="Networks that recipes and jobs may reach although they are loopback, link-local, or have addresses"
        " of this machine or of the service, separated by commas: `192.0.2.10/32,10.1.0.0/16`.",
    )
    image_secrets: Literal["remove", "refuse", "keep"] = Field(
        "remove",
        description="What a job does with host keys, machine ids, histories and logins in an image; `keep` only warns.",
    )
    recipe_max_mib: int = Field(1024, ge=1, description="Maximum size of an unpacked recipe, in MiB.")
    recipe_max_files: int = Field(20000, ge=1, description="Maximum number of files in a recipe.")
    image_max_gib: int = Field(
        64, ge=1, description="Maximum size of the rootfs of an image that a job customizes, in GiB."
    )
    repository_timeout: int = Field(120, ge=1, description="Time to wait for the repositories of a recipe, in seconds.")
    repository_poll: float = Field(
        10, gt=0, description="Interval between two requests to a repository that is not ready, in seconds."
    )
    nightly_pause_after: int = Field(
        3, ge=1, description="Number of consecutive failed nights after which a recipe or image is paused."
    )
    build_env_size: int = Field(
        4, ge=1, description="Free disk space that a job requires, in GiB, unless the job sets `build_env_size`."
    )
    disk_reserve_mib: int = Field(
        1024,
        ge=1,
        description="Space that jobs leave free on the disk of the workspaces, in MiB; at most a twentieth of the disk."
        " If less is free, jobs end that take more than `build_env_size`.",
    )
    disk_watermark_mib: int = Field(
        5120,
        ge=0,
        description="Free space below which new jobs wait, in MiB, on the disks of the workspaces and of the embedded "
        "S3; at most a tenth of a disk. They fail after a day. 0: they never wait. It has no effect on Kubernetes.",
    )
    squashfs: Literal["kernel", "unpack"] = Field(
        "kernel",
        description="How steps read an image: the `kernel` mounts its squashfs, which takes no time; with `unpack`, it "
        "is unpacked in a sandbox, so the kernel reads no squashfs of a stranger.",
    )
    squashfs_level: int = Field(
        6, ge=1, le=22, description="zstd compression level of the rootfs. Lower is faster, higher is smaller."
    )
    squashfs_splice: bool = Field(
        True,
        description="Whether the rootfs of a customized image continues that of the old image: only the changes are "
        "packed and sent. What was removed or replaced can then be recovered from it, unless the job sets "
        "`pack_in_full`; see [Security](security.md#what-is-not-protected). It has no effect if `IMS_SQUASHFS` is "
        "`unpack`.",
    )
    squashfs_splice_builds: bool = Field(
        False,
        description="Whether the rootfs of a build is packed in two parts: what it kept of its package root, and its "
        "changes. A later build that keeps the same files packs only its changes. Nothing that a build removed is in "
        "the rootfs. It saves no time on Kubernetes, where each job has a cache of its own.",
    )
    squashfs_processors: int = Field(0, ge=0, description="Number of processors that mksquashfs uses; 0 means all.")
    sandbox_memory_percent: int = Field(
        80,
        ge=1,
        le=100,
        description="Part of the machine's memory that the sandbox of one step may use, in percent. On Kubernetes, the "
        "limits of the pod apply too.",
    )
    sandbox_processes: int = Field(
        8192, ge=100, description="Number of processes that may exist in the sandbox of one step."
    )
    squashfs_memory_mib: int = Field(256, ge=64, description="Memory that mksquashfs uses, in MiB.")
    retention_keep_last: int = Field(
        0, ge=0, description="Number of images kept for each lineage, whatever their age; 0 keeps all images."
    )
    retention_keep_days: int = Field(
        30,
        ge=0,
        le=36500,
        description="Minimum age of an image before retention may delete it, in days; 0 keeps images forever.",
    )
    retention_all_images: bool = Field(
        False,
        description="Whether retention also covers customized and manually registered images, grouped by name. It "
        "always covers customized images that are marked `nightly`.",
    )
    retention_tombstone_days: int = Field(
        7, ge=0, le=36500, description="Days until a tombstone is purged; 0 keeps tombstones forever."
    )
    audit_days: int = Field(
        365, ge=0, le=36500, description="Days until an entry of the audit log is removed; 0 keeps all entries."
    )
    log_days: int = Field(
        90,
        ge=0,
        le=36500,
        description="Days until maintenance removes the logs of the tasks of a run; 0 keeps all logs. On Kubernetes, "
        "set a lifecycle rule for their bucket instead.",
    )
    orphan_hours: int = Field(
        24,
        ge=1,
        le=876000,
        description="Minimum age before a leftover (an orphaned object, an old workspace) is swept, in hours.",
    )
    cache_gib: int = Field(
        20,
        ge=0,
        description="Size to which maintenance trims the caches of packages, package roots and images, in GiB; to less "
        "if their disk has less free space than IMS_DISK_WATERMARK_MIB.",
    )
    scrub_mib: int = Field(
        20,
        ge=0,
        description="MiB per second at which maintenance reads the objects of images in S3, to find damaged ones; 0 "
        "disables it.",
    )
    maintenance_schedule: str = Field(
        "0 4 * * *",
        description="Cron expression of the workflow `image_maintenance`; `none` disables the schedule.",
    )
    nightly_schedule: str = Field(
        "0 1 * * *",
        description="Cron expression of the workflow `nightly_images`; `none` disables the schedule.",
    )
    build_on: Literal["schedule", "publication", "both"] = Field(
        "schedule",
        description="What starts `nightly_images`: `schedule` (`IMS_NIGHTLY_SCHEDULE`), `publication` (of packages to "
        "a repository of a nightly recipe), or `both`.",
    )
    nightly_parallelism: int = Field(
        2,
        ge=1,
        le=1000,
        description="Maximum number of builds, and then of customizations, that a night runs at the same time.",
    )
    nightly_timezone: str = Field("UTC", description="Time zone of both schedules, for example `Europe/Berlin`.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")

    @model_validator(mode="before")
    @classmethod
    def _from_environment(cls, given: dict[str, Any]) -> dict[str, Any]:
        variables = {name: os.environ.get(f"IMS_{name.upper()}") for name in cls.model_fields}
        return {name: text for name, text in variables.items() if text} | given

    @field_validator("nightly_timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"there is no time zone {name}")
        return name

    @field_validator("maintenance_schedule", "nightly_schedule")
    @classmethod
    def _schedules(cls, cron: str) -> str:
        if cron != "none":
            _check_cron(cron)
        return cron

    @field_validator("ca_places")
    @classmethod
    def _places(cls, text: str) -> str:
        for item in _items(text):
            if _PLACE.fullmatch(item) is None or {".", ".."} & set(item.split("/")):
                raise ValueError(f"{item!r} is not a plain absolute path")
        return text

    @field_validator("allowed_networks")
    @classmethod
    def _networks(cls, text: str) -> str:
        for item in _items(text):
            ip_network(item)
        return text

    @field_validator("gateway")
    @classmethod
    def _gateway_address(cls, text: str) -> str:
        if text and not urlsplit(f"//{text}").port:
            raise ValueError("the port must be from 1 to 65535")
        return text

    @field_validator("shell_ports")
    @classmethod
    def _shell_ports(cls, text: str) -> str:
        first, last = map(int, text.split("-"))
        if not 1 <= first <= last <= 65535:
            raise ValueError("the ports must be from 1 to 65535, the lower one first")
        return text

    @property
    def shell_port_range(self) -> range:
        """The ports of `shell_ports`."""
        first, last = map(int, self.shell_ports.split("-"))
        return range(first, last + 1)

    @property
    def gateway_address(self) -> tuple[str, int] | None:
        """Host and port of `gateway`, or None."""
        url = urlsplit(f"//{self.gateway}")
        return (str(url.hostname), url.port) if url.port else None

    @property
    def gateway_password(self) -> Path:
        """File with the password of the user of the gateway."""
        return self.secrets / "gateway-password"

    @property
    def further_ca_files(self) -> tuple[str, ...]:
        """The paths of `ca_places`."""
        return _items(self.ca_places)

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of `allowed_networks`."""
        return tuple(map(ip_network, _items(self.allowed_networks)))

    @property
    def records_url(self) -> str:
        """SQLAlchemy URL of the records database."""
        return self.database_url or f"sqlite:///{self.home / 'ims.db'}"

    @property
    def buckets(self) -> tuple[str, str]:
        """The buckets that links may name: that of recipes and that of images."""
        return self.recipes_bucket, self.images_bucket

    @property
    def disks(self) -> tuple[Path, ...]:
        """The folders on this machine that jobs fill: those of the workspaces and of the embedded S3."""
        return (self.workspaces,) if self.s3_endpoint_url is not None else (self.workspaces, self.home / "s3")

    @property
    def endpoint_url(self) -> str:
        """URL of the S3 service."""
        return str(self.s3_endpoint_url or f"http://{self.host}:{self.s3_port}").rstrip("/")

    @property
    def sts_role_arn(self) -> str:
        """ARN of the role that temporary S3 credentials assume; empty if there is none."""
        return EMBEDDED_ROLE if self.s3_endpoint_url is None else self.sts_role

    @property
    def sts_read_role_arn(self) -> str:
        """ARN of the role of temporary S3 credentials that can only read; empty if there is none."""
        return EMBEDDED_READ_ROLE if self.s3_endpoint_url is None else self.sts_read_role

    @property
    def step_role_arn(self) -> str:
        """ARN of the role of the credentials of steps; empty if steps use the credentials of the service."""
        return self.sts_role_arn if self.sts else ""

    @property
    def airflow_url(self) -> str:
        """URL of Airflow on this machine; the IMS API is at `/apis/ims` below it."""
        return f"http://{self.host}:{self.port}"

    @property
    def ui_url(self) -> str:
        """URL of the UI for people."""
        return str(self.public_url or self.airflow_url).rstrip("/")

    def run_url(self, dag_id: str, run_id: str) -> str:
        """URL of the page of a run in the UI."""
        return f"{self.ui_url}/dags/{dag_id}/runs/{run_id}"

    @property
    def ca_certificate_path(self) -> Path:
        """Path of the root CA certificate of the site."""
        return self.ca_certificate or self.home / "site-root-ca.pem"

    @property
    def workspaces(self) -> Path:
        """Folder with one workspace for each job."""
        return self.home / "workspaces"

    @property
    def secrets(self) -> Path:
        """Folder of credentials (mode 0700)."""
        return self.home / "secrets"


@cache
def settings() -> Settings:
    """Returns the settings of this process.

    Raises pydantic.ValidationError if a variable has an invalid value.
    """
    return Settings()


def wrong_settings(error: ValidationError) -> list[str]:
    """Returns a line for each setting that is wrong."""
    return [f"IMS_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors()]


def documentation() -> str:
    """Returns the settings as a Markdown page."""
    rows = ["| Variable | Default | Meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "", PydanticUndefined) else f"`{field.default}`"
        rows.append(f"| `IMS_{name.upper()}` | {default} | {field.description} |")
    table = "\n".join(rows)
    return f"""\
# Settings

Every setting is an environment variable. Processes read it when they start. Run `make down`, set the
variable, then run `make up`. If systemd runs the service, set the variable and run `make install`,
as [Install](install.md#run-it-with-systemd) says. On Kubernetes, set it in
`deploy/helm/values.yaml`. `make docs` generates this page from `plugins/ims/settings.py`.

{table}
"""


if __name__ == "__main__":
    print(documentation(), end="")
