"""The parameters of each workflow: one schema for the API and for the trigger form of the DAG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ims.params import boot_files
from ims.settings import settings

IMAGE_NAME_LENGTH = 1024
IMAGE_NAME_BYTES = 2048
"""PostgreSQL cannot index longer names."""
_KEY = "Name or id of the public key that may log in to the shell of the job."
SCRIPT_LENGTH = 8192
"""The most characters of a script. It is part of the command line of a step, which the kernel limits to 128 KiB."""

MAX_PROFILES = 20
Profile = Annotated[str, Field(pattern=r"^[^\s,\x00-\x1f\x7f-][^\s,\x00-\x1f\x7f]*$", max_length=100)]
"""The name of a profile of a description."""

MAX_LEASE = 30 * 86400
"""The longest lease of a shell or a script, in seconds. The lease of a shell can be extended."""
MAX_REPOSITORY_WAIT = 86400
"""The longest time that a job waits for repositories, in seconds."""

Identity = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]

Reference = Annotated[str, Field(pattern=r"^[^\x00]+$", min_length=1, max_length=IMAGE_NAME_LENGTH)]
"""A record in a request: its id, the beginning of its id, or its name. The API passes on the id."""


def check_image_name(name: str) -> str:
    """Returns the name of an image. Raises ValueError if it is too long for the database."""
    if len(name.encode()) > IMAGE_NAME_BYTES:
        raise ValueError(f"the name has more than {IMAGE_NAME_BYTES} bytes")
    return name


@dataclass(frozen=True)
class ShellSpec:
    """The shell that a job opens."""

    name: str
    jail: bool


def _field(section: str, title: str, default: Any, description: str, *, many_lines: bool = False, **rules: Any) -> Any:
    extra: dict[str, Any] = {"section": section} | ({"format": "multiline"} if many_lines else {})
    return Field(default, title=title, description=description, json_schema_extra=extra, **rules)


def _boot_field(title: str, what: str, default: str) -> Any:
    description = f"Name of the {what} in /boot of the image. Empty: as the recipe says, or {default}."
    return _field("Boot files", title, None, description, pattern=boot_files.FILE_NAME, max_length=boot_files.MAX_NAME)


class JobParams(BaseModel):
    """The parameters that all jobs have."""

    model_config = ConfigDict(extra="forbid")

    artifact_id: Reference
    image_root_archive_name: Annotated[str, AfterValidator(check_image_name)] = _field(
        "Image",
        "Name of the image",
        ...,
        "Name of the new image.",
        min_length=1,
        max_length=IMAGE_NAME_LENGTH,
        pattern=r"^[^\x00]*$",
    )
    public_key_id: Reference | None = _field("Image", "Public key", None, _KEY)
    kernel_file_name: str | None = _field(
        "Boot files",
        "Kernel",
        None,
        "Name of the kernel in /boot of the image. Empty: vmlinuz, or Image on aarch64.",
        pattern=boot_files.FILE_NAME,
        max_length=boot_files.MAX_NAME,
    )
    initrd_file_name: str = _field(
        "Boot files",
        "Initrd",
        boot_files.DEFAULTS["initrd_file_name"],
        "Name of the initrd in /boot of the image.",
        pattern=boot_files.FILE_NAME,
        max_length=boot_files.MAX_NAME,
    )
    kernel_parameters_file_name: str = _field(
        "Boot files",
        "Kernel parameters",
        boot_files.DEFAULTS["kernel_parameters_file_name"],
        "Name of the file with the kernel parameters in /boot of the image. An image need not have the file.",
        pattern=boot_files.FILE_NAME,
        max_length=boot_files.MAX_NAME,
    )
    build_env_size: int | None = _field(
        "Build", "Free space (GiB)", None, "Space that must be free before the job starts.", ge=1, le=65536
    )
    job_mem_size: int | None = _field(
        "Build", "Memory (GiB)", None, "Memory limit of the build, if steps run as pods.", ge=1, le=65536
    )
    require_dkms: bool | None = _field(
        "Build", "DKMS", None, "Whether the build needs kernel modules made by DKMS. Empty: as the recipe says."
    )
    enable_debug: bool = False
    lease: int = _field(
        "Shell",
        "Lease (s)",
        86400,
        "Seconds after which an unfinished shell is closed and the job ends in error. The lease can be extended.",
        ge=60,
        le=MAX_LEASE,
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_names_are_defaults(cls, fields: Any) -> Any:
        return boot_files.without_empty(fields)

    @property
    def shell(self) -> ShellSpec | None:
        """The shell that the job opens, or may open; None if it never opens one."""
        return None


class CreateParams(JobParams):
    """The parameters of `create_image`."""

    artifact_id: Reference = _field(
        "Image",
        "Recipe",
        ...,
        "Name or id of the recipe to build. A name means the newest recipe of that name. The first four characters of "
        "an id are enough. The page Images lists the recipes.",
    )
    public_key_id: Reference | None = _field("Image", "Public key", None, f"{_KEY} Only a debug shell needs one.")
    kernel_file_name: str | None = _boot_field("Kernel", "kernel", "vmlinuz, or Image on aarch64")
    initrd_file_name: str | None = _boot_field("Initrd", "initrd", "initrd")  # type: ignore[assignment]
    kernel_parameters_file_name: str | None = _boot_field(  # type: ignore[assignment]
        "Kernel parameters", "file with the kernel parameters", "kernel-parameters"
    )
    enable_debug: bool = _field(
        "Shell",
        "Debug shell",
        False,
        "Open a shell on the image root if the build fails or the image cannot be packed.",
    )
    profiles: list[Profile] = _field(
        "Description",
        "Profiles to build",
        [],
        "Profiles of the description to build. Empty: those of the recipe.",
        max_length=MAX_PROFILES,
    )
    repository_timeout: int = _field(
        "Repositories",
        "Wait for repositories (s)",
        settings().repository_timeout,
        "Seconds to wait until every repository of the recipe answers.",
        ge=1,
        le=MAX_REPOSITORY_WAIT,
    )
    force: bool = _field(
        "Repositories",
        "Install everything again",
        False,
        "Install all packages again, even if an earlier build installed the same packages.",
    )

    @property
    def shell(self) -> ShellSpec | None:
        """The debug shell, which the job opens if it fails."""
        return ShellSpec("debug", False) if self.enable_debug else None


class CustomizeParams(JobParams):
    """The parameters of `customize_image`."""

    artifact_id: Reference = _field(
        "Image",
        "Image",
        ...,
        "Name or id of the image to customize. A name means the newest image of that name. The first four characters "
        "of an id are enough. The page Images lists the images.",
    )
    public_key_id: Reference | None = _field(
        "Image", "Public key", None, f"{_KEY} A script or a playbook needs none, because no shell opens."
    )
    enable_debug: bool = _field(
        "Shell", "Debug", False, "Accepted from clients of IMS. It has no effect: a customization opens a shell anyway."
    )
    shell_name: str = _field(
        "Shell",
        "Name of the shell",
        "customize",
        "Name by which clients recognize the shell.",
        min_length=1,
        max_length=63,
    )
    jail: bool = _field(
        "Shell",
        "Jail",
        False,
        "Show only the image, as the root. Otherwise the image is at /mnt/image/image-root, with tools around it.",
    )
    pack_in_full: bool = _field(
        "Image", "Pack in full", False, "Pack the whole rootfs, so that removed files cannot be recovered from it."
    )
    network: Literal["open", "repositories", "none"] = _field(
        "Build",
        "Network",
        "open",
        "What the shell, the script or the playbook may reach: `open`, everything but the service and its machine; "
        "`repositories`, the package sources of the image; or `none`.",
    )
    script: str | None = _field(
        "Script",
        "Script",
        None,
        "Run this script in the image, as root, instead of opening a shell. Without a #! line, /bin/sh runs it. "
        "Do not include passwords: everybody who may see the job can read the script.",
        min_length=1,
        max_length=SCRIPT_LENGTH,
        pattern=r"^[^\x00]*$",
        many_lines=True,
    )
    playbook: str | None = _field(
        "Script",
        "Ansible playbook",
        None,
        "S3 address of a .tar.gz archive with site.yml at its top. Ansible runs it on the image; no shell opens.",
        pattern=r"^s3://[^/\x00]+/[^\x00]+$",
        max_length=1024,
    )
    playbook_sha256: str | None = _field(
        "Script",
        "SHA-256 of the playbook",
        None,
        "The job fails if the archive of the playbook has another SHA-256.",
        pattern=r"^[0-9a-f]{64}$",
    )

    @model_validator(mode="after")
    def _has_one_script(self) -> CustomizeParams:
        if self.script is not None and self.playbook is not None:
            raise ValueError("script and playbook cannot both be given")
        if self.playbook_sha256 is not None and self.playbook is None:
            raise ValueError("playbook_sha256 needs a playbook")
        return self

    @property
    def shell(self) -> ShellSpec | None:
        """The shell, unless a script or a playbook customizes the image."""
        scripted = self.script is not None or self.playbook is not None
        return None if scripted else ShellSpec(self.shell_name, self.jail)


class PlanParams(BaseModel):
    """The parameters of `plan_images`."""

    model_config = ConfigDict(extra="forbid")

    recipes: list[Reference] = Field(
        default_factory=list,
        title="Recipes",
        description="Names or ids of the recipes to plan. Empty: the recipes that are built nightly.",
        max_length=1000,
    )


class MaintenanceParams(BaseModel):
    """The parameters of `image_maintenance`."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = _field("Maintenance", "Dry run", False, "Only list what would be deleted.")


class NightParams(BaseModel):
    """The parameters of `nightly_images`."""

    model_config = ConfigDict(extra="forbid")

    recipes: list[Reference] = _field(
        "Night",
        "Recipes",
        [],
        "Names or ids of the recipes to build, marked or not. Empty: all that are marked and not paused.",
        max_length=1000,
    )
    force: bool = _field(
        "Night",
        "Force",
        False,
        "Make all images again, even if they would be identical, and install all packages again.",
    )
