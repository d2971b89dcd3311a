"""What real clients of IMS send, beside what the contract of each resource demands: a row for each request."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ims.api.runs.airflow import AirflowApi
from tests.api.offline import Offline, application, offline_api
from tests.api.offline_airflow import MemoryAirflow
from tests.api.wire import assert_problem
from tests.service import PUBLIC_KEY

PRIVATE = ed25519.Ed25519PrivateKey.generate()
KEY_TYPE, BLOB, _ = PUBLIC_KEY.split()


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> MemoryAirflow:
    """Airflow without a scheduler."""
    made = MemoryAirflow()
    overrides: dict[Any, Any] = application().dependency_overrides
    monkeypatch.setitem(overrides, AirflowApi, lambda: made)
    return made


@pytest.fixture
def offline(airflow: MemoryAirflow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offline]:
    """The API in this process."""
    with offline_api(monkeypatch) as api:
        yield api


def registered(offline: Offline, kind: str, **fields: Any) -> dict[str, Any]:
    """Registers a record as a user; returns it."""
    required = {
        "recipes": {"name": "x", "recipe_type": "kiwi-ng", "linux_distribution": "sles15"},
        "images": {"name": "x"},
        "public-keys": {"name": "x", "public_key": PUBLIC_KEY},
    }
    answer = offline.request("user", "POST", f"/v3/{kind}", {**required[kind], **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


# Public keys


KEPT = {
    "as in the file": f"{PUBLIC_KEY}\n",
    "from Windows": f"{PUBLIC_KEY}\r\n",
    "without line end": PUBLIC_KEY,
    "with spaces around": f"\n  {PUBLIC_KEY} \n\n",
    "without comment": f"{KEY_TYPE} {BLOB}\n",
}


@pytest.mark.parametrize("name", KEPT)
def test_key_is_kept_as_sent(offline: Offline, name: str) -> None:
    """SAT looks for the key whose text equals the whole file."""
    record = registered(offline, "public-keys", public_key=KEPT[name])
    assert record["public_key"] == KEPT[name]
    assert record in offline.request("viewer", "GET", "/v3/public-keys").json()


def key_line(kind: str, *parts: bytes) -> str:
    """Returns a line in the format of OpenSSH, with any contents."""
    blob = b"".join(struct.pack(">I", len(part)) + part for part in (kind.encode(), *parts))
    return f"{kind} {base64.b64encode(blob).decode()} test\n"


def rsa_line(bits: int) -> str:
    """Returns an RSA key of a size that takes no time to make."""
    return key_line("ssh-rsa", b"\1\0\1", b"\0" + ((1 << (bits - 1)) + 1).to_bytes(bits // 8, "big"))


CERTIFICATE = Path(__file__).with_name("id-cert.pub").read_text()
REFUSED_KEYS = {
    "certificate": (CERTIFICATE, "-cert"),
    "certificate of RSA": (key_line("ssh-rsa-cert-v01@openssh.com", b"x"), "-cert"),
    "DSA": (key_line("ssh-dss", b"\1", b"\1", b"\1", b"\1"), "must begin with"),
    "RSA that is too short": (rsa_line(512), "512 bits"),
    "RSA that is too long": (rsa_line(20_000), "20000 bits"),
    "private": (PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(), "private key"),
    "two keys": (f"{PUBLIC_KEY}\n{PUBLIC_KEY}\n", "one line"),
    "options": (f"no-pty {PUBLIC_KEY}\n", "must begin with"),
    "PEM": (PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), "one line"),
    "white space": (" \n", "must begin with"),
    "cut off": (f"{KEY_TYPE} {BLOB[:-8]}\n", "not an OpenSSH public key"),
}


@pytest.mark.parametrize("name", REFUSED_KEYS)
def test_key_is_refused(offline: Offline, name: str) -> None:
    """A key with which nobody could log in is refused; the answer says why and does not repeat the key."""
    before = offline.everything()
    text, reason = REFUSED_KEYS[name]
    answer = offline.request("user", "POST", "/v3/public-keys", {"name": "x", "public_key": text})
    assert_problem(answer, 422, "public_key")
    assert reason in answer.json()["detail"]
    assert text.strip() == "" or text.strip() not in answer.json()["detail"]
    assert offline.everything() == before


# Jobs


@pytest.fixture
def inputs(offline: Offline) -> dict[str, str]:
    """The ids of a recipe, an image and a key that a job can use."""
    archive = offline.store.put(f"s3://ims/recipes/{uuid4()}/recipe.tar.gz")
    return {
        "create": registered(offline, "recipes", link={"path": archive})["id"],
        "customize": registered(offline, "images", link={"path": offline.store.put_image()})["id"],
        "key": registered(offline, "public-keys")["id"],
    }


def job_of(inputs: dict[str, str], job_type: str, **fields: Any) -> dict[str, Any]:
    """Returns the body of a new job."""
    ids = {"artifact_id": inputs[job_type], "public_key_id": inputs["key"]}
    return {"job_type": job_type, "image_root_archive_name": "x", **ids, **fields}


# What a client sends for a job of which type, and what the record says.
JOBS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "jail without name": (
        "customize",
        {"ssh_containers": [{"jail": True}]},
        {"ssh_containers": [{"name": "customize", "jail": True}]},
    ),
    "shell without anything": (
        "customize",
        {"ssh_containers": [{}]},
        {"ssh_containers": [{"name": "customize", "jail": False}]},
    ),
    "shell with name": (
        "customize",
        {"ssh_containers": [{"name": "cfs", "jail": True}]},
        {"ssh_containers": [{"name": "cfs", "jail": True}]},
    ),
    "no shell": ("create", {}, {"ssh_containers": None}),
    "empty list of shells": ("create", {"ssh_containers": []}, {"ssh_containers": None}),
}


def has(value: Any, expected: Any) -> bool:
    """Whether the value has what is expected; mappings may have more."""
    if isinstance(expected, dict):
        return isinstance(value, dict) and all(has(value.get(name), item) for name, item in expected.items())
    if isinstance(expected, list):
        same = isinstance(value, list) and len(value) == len(expected)
        return same and all(map(has, value, expected))
    return bool(value == expected)


@pytest.mark.parametrize("name", JOBS)
def test_job(offline: Offline, inputs: dict[str, str], name: str) -> None:
    """The answer to POST and to GET has these values."""
    job_type, sent, expected = JOBS[name]
    answer = offline.request("user", "POST", "/v3/jobs", job_of(inputs, job_type, **sent))
    assert answer.status_code == 201, answer.text
    assert has(answer.json(), expected), answer.json()
    later = offline.request("viewer", "GET", f"/v3/jobs/{answer.json()['id']}")
    assert has(later.json(), expected), later.json()
