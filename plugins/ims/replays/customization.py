"""The build inputs of an image that a script or a playbook made: everything that decides its content."""

from __future__ import annotations

import hashlib
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ims.errors import InputError

NAME = "customization.json"
"""The object of the image that holds them."""
PLAYBOOK = "playbook.tar.gz"
"""The object of the image that holds the archive of its playbook."""
MAX_BYTES = 256 * 1024

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Environment(BaseModel):
    """What the installation adds to a customized image: the CA certificate of the site, and what programs do."""

    model_config = ConfigDict(frozen=True)

    ca_certificate: str
    builder: dict[str, str]


class Parameters(BaseModel):
    """The parameters of the job, as `ims.params.CustomizeParams` names them, that a replay repeats."""

    model_config = ConfigDict(frozen=True)

    script: str | None
    network: str
    lease: int
    build_env_size: int | None
    kernel_file_name: str | None
    initrd_file_name: str
    kernel_parameters_file_name: str
    pack_in_full: bool = False


class Customization(BaseModel):
    """The rootfs that was customized, and how. Without a `script` in the parameters, a playbook did it.

    `parent` identifies the rootfs by its content, as `ims.steps.fetch_image.cache_key` does. `playbook` is the SHA-256
    of the archive.
    """

    model_config = ConfigDict(frozen=True)

    parent: Annotated[str, Field(max_length=100)]
    parameters: Parameters
    playbook: Digest | None
    environment: Environment

    @classmethod
    def read(cls, data: bytes, digest: str) -> Self:
        """Parse the object of an image. Raises InputError if it is not the one with this SHA-256."""
        if hashlib.sha256(data).hexdigest() != digest:
            raise InputError(f"{NAME} of the image was replaced in S3")
        try:
            return cls.model_validate_json(data)
        except ValidationError:
            raise InputError(f"{NAME} of the image cannot be read") from None

    def difference(self, parent: str, now: Environment) -> str | None:
        """Why another run on the rootfs `parent` could make another image; None if it could not."""
        if self.parent != parent:
            return "its parent changed"
        if self.environment.ca_certificate != now.ca_certificate:
            return "the CA certificate of the site changed"
        if self.environment.builder != now.builder:
            return "the programs that build images changed"
        if self.parameters.network != "none":
            return f"its script may download anything (network: {self.parameters.network})"
        return None
