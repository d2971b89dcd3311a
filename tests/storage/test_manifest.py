"""Reading and writing manifests of images."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
import yaml

from ims.errors import InputError
from ims.storage import manifest
from ims.storage.manifest import MAX_BYTES, Artifact, Link, Manifest, read_manifest, write_manifest

NAME = "s3://boot-images/1/manifest.yaml"
ROOTFS = {
    "type": manifest.ROOTFS,
    "md5": "0" * 32,
    "link": {"type": "s3", "path": "s3://boot-images/1/rootfs", "etag": "abc-4"},
}
KERNEL = {**ROOTFS, "type": manifest.KERNEL}
DOCUMENT: dict[str, Any] = {"version": "1.0", "created": "2026-11-22 19:00:00.000000", "artifacts": [ROOTFS, KERNEL]}
YAML = """\
version: '1.0'
created: 2026-11-22 19:00:00.000000
artifacts:
# by hand
- type: application/vnd.cray.image.rootfs.squashfs
  link: {type: s3, path: 's3://boot-images/1/rootfs'}
"""


def uploaded(kind: str, name: str) -> Artifact:
    """The entry of an artifact."""
    return Artifact(type=kind, md5="0" * 32, link=Link(path=f"s3://boot-images/1/{name}", etag="abc-4"))


ALL = {
    "rootfs": "application/vnd.cray.image.rootfs.squashfs",
    "kernel": "application/vnd.cray.image.kernel",
    "initrd": "application/vnd.cray.image.initrd",
    "boot_parameters": "application/vnd.cray.image.parameters.boot",
}


def test_types_are_those_that_bos_reads() -> None:
    """Nodes find their kernel and root file system by these types."""
    assert (*ALL.values(),) == (manifest.ROOTFS, manifest.KERNEL, manifest.INITRD, manifest.BOOT_PARAMETERS)


def test_manifest_is_json_and_yaml() -> None:
    """Readers of either format can parse the file, which has JSON in it and the ending .yaml."""
    text = write_manifest([uploaded(kind, name) for name, kind in ALL.items()])
    seen = json.loads(text)
    assert yaml.safe_load(text) == seen
    assert list(seen) == ["version", "created", "artifacts"]
    assert seen["version"] == "1.0"
    assert datetime.strptime(seen["created"], "%Y-%m-%d %H:%M:%S.%f")
    assert seen["artifacts"][0] == {
        "type": "application/vnd.cray.image.rootfs.squashfs",
        "md5": "0" * 32,
        "link": {"type": "s3", "path": "s3://boot-images/1/rootfs", "etag": "abc-4"},
    }
    assert [artifact["type"] for artifact in seen["artifacts"]] == list(ALL.values())


def test_manifest_is_smaller_than_the_limit_of_bos() -> None:
    """BOS rejects a manifest of 1 MiB; even the longest keys in S3 make one that is far smaller."""
    text = write_manifest([uploaded(kind, "k" * 1024) for kind in ALL.values()])
    assert len(text.encode()) < MAX_BYTES / 10


def test_round_trip() -> None:
    """A manifest that was written can be read; artifacts are found by type."""
    found = read_manifest(write_manifest([uploaded(kind, name) for name, kind in ALL.items()]).encode(), NAME)
    assert [artifact.link.path for artifact in found.of_type(manifest.INITRD)] == ["s3://boot-images/1/initrd"]
    assert found.of_type("application/other") == []


READABLE = {
    "JSON": json.dumps(DOCUMENT),
    "JSON, more fields": json.dumps({**DOCUMENT, "note": "x", "artifacts": [{**ROOTFS, "size": 1}]}),
    "JSON with tabs": json.dumps(DOCUMENT, indent="\t"),
    "YAML": yaml.safe_dump(DOCUMENT),
    "version as a number in JSON": json.dumps({**DOCUMENT, "version": 1.0}),
    "version as a number in YAML": YAML.replace("'1.0'", "1.0"),
    "version as a number without a fraction": json.dumps({**DOCUMENT, "version": 1}),
    "YAML by hand": YAML,
}


@pytest.mark.parametrize("text", READABLE.values(), ids=READABLE)
def test_read_both_formats(text: str) -> None:
    """A manifest may be written by IMS or by hand."""
    (rootfs,) = read_manifest(text.encode(), NAME).of_type(manifest.ROOTFS)
    assert rootfs.link.path == "s3://boot-images/1/rootfs"
    assert rootfs.link.type == "s3"


def test_manifest_without_artifacts() -> None:
    """It is valid: the callers check which artifacts they need."""
    assert read_manifest(b'{"version": "1.0", "artifacts": []}', NAME).artifacts == []


BAD = {
    "neither": (b"{]: [", "is neither JSON nor YAML"),
    "bytes": (b"\xff\xfe\x00", "is neither JSON nor YAML"),
    "nested too deeply": (b"[" * 100_000, "manifest"),
    "a program": (b"!!python/object/apply:os.getpid []", "is neither JSON nor YAML"),
    "empty": (b"", "the document: "),
    "a list": (b"[]", "the document: "),
    "text": (b"hello", "the document: "),
    "no version": (json.dumps({"artifacts": []}).encode(), "version: Field required"),
    "another version": (json.dumps({**DOCUMENT, "version": "2.0"}).encode(), "version: Input should be '1.0'"),
    "another number": (json.dumps({**DOCUMENT, "version": 2}).encode(), "version: Input should be '1.0'"),
    "another text": (json.dumps({**DOCUMENT, "version": "1"}).encode(), "version: Input should be '1.0'"),
    "true": (json.dumps({**DOCUMENT, "version": True}).encode(), "version: Input should be '1.0'"),
    "no artifacts": (b'{"version": "1.0"}', "artifacts: Field required"),
    "artifact without a link": (
        json.dumps({**DOCUMENT, "artifacts": [ROOTFS, {"type": "x"}]}).encode(),
        "artifacts.1.link: Field required",
    ),
    "artifact elsewhere": (
        json.dumps({**DOCUMENT, "artifacts": [{**ROOTFS, "link": {"type": "http", "path": "x"}}]}).encode(),
        "artifacts.0.link.type: Input should be 's3'",
    ),
}


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD)
def test_malformed_manifest(data: bytes, reason: str) -> None:
    """The error names the manifest and the first fault."""
    with pytest.raises(InputError) as caught:
        read_manifest(data, NAME)
    assert NAME in caught.value.reason
    assert reason in caught.value.reason


def test_time_of_a_new_manifest() -> None:
    """The time is that of the creation."""
    assert Manifest(version="1.0", artifacts=[]).created < Manifest(version="1.0", artifacts=[]).created
