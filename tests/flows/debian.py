"""The image of the shipped Debian recipe, built once for all tests that need a real distribution."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ims.demo.build import RECIPE
from ims.demo.mirrors import debian_mirrors
from tests.flows.artifacts import fetch, unpack
from tests.service import Service


@dataclass
class DebianImage:
    """An image that was built, with what S3 holds of it."""

    job: dict[str, Any]
    record: dict[str, Any]
    files: dict[str, Path]
    root: Path


def build(service: Service, folder: Path) -> DebianImage:
    """Build the recipe as `make demo` does, from the machine's own mirror; fetch the artifacts from S3."""
    recipe = service.push(RECIPE, "debian12", **debian_mirrors())
    job = service.wait(service.create(recipe["id"])["id"], timeout=1200)
    assert job["status"] == "success", job["reason"]
    record = service.client.get(f"images/{job['resultant_image_id']}")
    files = fetch(service, record, folder)
    return DebianImage(job, record, files, unpack(files["rootfs"], folder / "root"))
