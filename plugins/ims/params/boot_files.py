"""The names of the files in /boot that become artifacts of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

_NO_SLASH = r"[^/\x00-\x1f\x7f]*"
FILE_NAME = rf"^{_NO_SLASH}[^./\x00-\x1f\x7f]{_NO_SLASH}$"
"""Any name of a file. A name of dots alone is a folder."""
MAX_NAME = 255
FileName = Annotated[str, Field(pattern=FILE_NAME, max_length=MAX_NAME)]
FileNameOrEmpty = Annotated[str, Field(pattern=rf"^$|{FILE_NAME}", max_length=MAX_NAME)]

DEFAULTS: dict[str, str | None] = {
    "kernel_file_name": None,
    "initrd_file_name": "initrd",
    "kernel_parameters_file_name": "kernel-parameters",
}
"""The default of each field that names a file. The name of the kernel depends on the architecture."""
FIELDS = tuple(DEFAULTS)


def names(job: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, str | None]:
    """Returns the names of the files that a job looks up: those of the job, else of its recipe's record."""
    return {field: job.get(field) or recipe.get(field) or default for field, default in DEFAULTS.items()}


def default_kernel(arch: str | None) -> str:
    """Returns the name of the kernel that a job looks up if none is given."""
    return "Image" if arch == "aarch64" else "vmlinuz"


def without_empty(fields: Any) -> Any:
    """Returns the fields of a request without empty names of files: as in IMS, they stand for the default."""
    if not isinstance(fields, dict):
        return fields
    return {name: value for name, value in fields.items() if name not in DEFAULTS or value != ""}
