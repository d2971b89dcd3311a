"""Records of all kinds, for tests that apply to each."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx

from ims.storage.manifest import KERNEL, ROOTFS
from ims.storage.objects import ObjectName
from tests.api.wire import V3
from tests.service import PUBLIC_KEY, Service

REQUIRED: dict[str, dict[str, Any]] = {
    "public-keys": {"name": "x", "public_key": PUBLIC_KEY},
    "recipes": {"name": "x", "recipe_type": "kiwi-ng", "linux_distribution": "sles15"},
    "images": {"name": "x"},
}
RECIPES_BUCKET, IMAGES_BUCKET = "ims", "boot-images"


def make(api: httpx.Client, kind: str, root: str = V3, **fields: Any) -> dict[str, Any]:
    """Creates a record."""
    answer = api.post(f"{root}/{kind}", json={**REQUIRED[kind], **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def full(api: httpx.Client, service: Service, kind: str) -> dict[str, Any]:
    """Creates a record with all fields."""
    every: dict[str, dict[str, Any]] = {
        "public-keys": {"name": "größer / ein Schlüssel"},
        "recipes": {
            "arch": "aarch64",
            "require_dkms": False,
            "template_dictionary": [{"key": "A", "value": "ä"}],
            "link": {"path": store_archive(service), "etag": "e"},
        },
        "images": {
            "arch": "aarch64",
            "metadata": {"owner": "ada", "": ""},
            "link": {"path": store_image(service)[0], "etag": "e"},
        },
    }
    return make(api, kind, **every[kind])


def put(service: Service, path: str, data: bytes = b"data") -> str:
    """Creates an object in S3; returns its address."""
    service.store.write_bytes(ObjectName.parse(path), data)
    return path


def store_archive(service: Service) -> str:
    """Uploads a recipe archive; returns its address."""
    return put(service, f"s3://{RECIPES_BUCKET}/recipes/{uuid4()}/recipe.tar.gz")


def store_image(service: Service, *more: str, bucket: str = IMAGES_BUCKET) -> tuple[str, ...]:
    """Creates a manifest with its rootfs and other objects that it names; returns all addresses."""
    folder = f"s3://{bucket}/{uuid4()}"
    rootfs = put(service, f"{folder}/rootfs")
    artifacts = [
        {"type": kind, "md5": "", "link": {"type": "s3", "path": path, "etag": ""}}
        for path, kind in [(rootfs, ROOTFS), *((path, KERNEL) for path in more)]
    ]
    manifest = put(service, f"{folder}/manifest.yaml", json.dumps({"version": "1.0", "artifacts": artifacts}).encode())
    return (manifest, rootfs, *more)
