"""The image of the shipped Debian recipe, built once for all tests that need a real distribution."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ims.demo import build as demo
from tests.flows.artifacts import fetch, unpack
from tests.service import Service


@dataclass
class DebianImage:
    """The image: its job, its record, and its artifacts from S3."""

    job: dict[str, Any]
    record: dict[str, Any]
    files: dict[str, Path]
    root: Path


def build(service: Service, folder: Path) -> DebianImage:
    """Build the image as `make demo` does, and download its artifacts."""
    demo.run(service.settings, service.credentials, Console(stderr=True))
    record = service.client.get("images", name="debian12-demo")[-1]
    job = service.wait(record["job_id"])
    files = fetch(service, record, folder)
    return DebianImage(job, record, files, unpack(files["rootfs"], folder / "root"))
