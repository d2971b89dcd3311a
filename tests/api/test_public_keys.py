"""The contract of `/public-keys`."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.api.wire import (
    BAD_BODIES,
    NOBODY,
    UNKNOWN_IDS,
    V3,
    Refused,
    assert_bad_body,
    assert_deleted,
    assert_new,
    assert_problem,
)
from tests.service import PUBLIC_KEY

KEYS = f"{V3}/public-keys"
PRIVATE = ed25519.Ed25519PrivateKey.generate()
KIND, BLOB, _COMMENT = PUBLIC_KEY.split()


def openssh(key: ed25519.Ed25519PublicKey | rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> str:
    """Returns a key in the format of a `.pub` file, without comment."""
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def security_key() -> str:
    """Returns a key of a FIDO token, as `ssh-keygen -t ed25519-sk` writes it."""
    kind = b"sk-ssh-ed25519@openssh.com"
    point = PRIVATE.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    blob = b"".join(struct.pack(">I", len(part)) + part for part in (kind, point, b"ssh:"))
    return f"{kind.decode()} {base64.b64encode(blob).decode()} token"


VALID = {
    "ed25519": PUBLIC_KEY,
    "rsa": openssh(rsa.generate_private_key(65537, 2048).public_key()),
    "ecdsa": openssh(ec.generate_private_key(ec.SECP256R1()).public_key()),
    "security key": security_key(),
    "no comment": f"{KIND} {BLOB}",
    "long comment": f"{KIND} {BLOB} Ada Lovelace <ada@example.org> élan",
}

NOT_OPENSSH = {
    "empty": "",
    "word": "hello",
    "kind only": KIND,
    "short": f"{KIND} AAAA",
    "cut off": f"{KIND} {BLOB[:-8]}",
    "not base64": f"{KIND} {'!' * len(BLOB)}",
    "another kind": f"ssh-rsa {BLOB}",
    "unknown kind": f"ssh-nothing {BLOB}",
    "two keys": f"{PUBLIC_KEY}\n{PUBLIC_KEY}",
    "with options": f'command="/bin/sh" {PUBLIC_KEY}',
    "PEM": PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    "private": PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(),
    "NUL": f"{KIND} {BLOB} a\0b",
    "too long": f"{KIND} {BLOB} {'x' * 20_000}",
}

BAD_FIELDS = {
    "no name": Refused({"public_key": PUBLIC_KEY}, 422, ("name",)),
    "no key": Refused({"name": "x"}, 422, ("public_key",)),
    "unknown": Refused({"name": "x", "public_key": PUBLIC_KEY, "colour": "red"}, 422, ("colour",)),
    "id": Refused({"name": "x", "public_key": PUBLIC_KEY, "id": str(uuid4())}, 422, ("id",)),
    "empty name": Refused({"name": "", "public_key": PUBLIC_KEY}, 422, ("name",)),
    "number": Refused({"name": 1, "public_key": PUBLIC_KEY}, 422, ("name",)),
    "null": Refused({"name": None, "public_key": None}, 422, ("name", "public_key")),
    "NUL": Refused({"name": "a\0b", "public_key": PUBLIC_KEY}, 422, ("name",)),
    "long name": Refused({"name": "x" * 256, "public_key": PUBLIC_KEY}, 422, ("name",)),
}


def make(api: httpx.Client, **fields: Any) -> dict[str, Any]:
    """Creates a public key."""
    answer = api.post(KEYS, json={"name": "admin", "public_key": PUBLIC_KEY, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("name", VALID)
def test_create(api: httpx.Client, name: str) -> None:
    """POST creates a record with exactly the fields of the contract; GET and the list return the same."""
    record = make(api, name=name, public_key=VALID[name])
    assert_new(record, ("name", "public_key"))
    assert record["name"] == name
    assert record["public_key"] == VALID[name]
    one = api.get(f"{KEYS}/{record['id']}")
    assert one.status_code == 200
    assert one.headers["content-type"] == "application/json"
    assert one.json() == record
    every = api.get(KEYS)
    assert every.status_code == 200
    assert every.json().count(record) == 1


def test_same_name_twice(api: httpx.Client) -> None:
    """Names may repeat; ids are unique."""
    assert make(api, name="twin")["id"] != make(api, name="twin")["id"]


@pytest.mark.parametrize("name", NOT_OPENSSH)
def test_not_openssh(api: httpx.Client, name: str) -> None:
    """A key that sshd cannot read is refused, and the answer names the field."""
    before = api.get(KEYS).json()
    answer = api.post(KEYS, json={"name": "bad", "public_key": NOT_OPENSSH[name]})
    assert_problem(answer, 422, "public_key")
    assert "PRIVATE KEY" not in answer.text
    assert api.get(KEYS).json() == before


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_bad_fields(api: httpx.Client, name: str) -> None:
    """The answer names unknown, missing and invalid fields."""
    case = BAD_FIELDS[name]
    assert_problem(api.post(KEYS, json=case.sent), case.status, *case.fields)


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body(api: httpx.Client, name: str) -> None:
    """A body that is not a JSON object is refused."""
    assert_bad_body(api, "POST", KEYS, BAD_BODIES[name])


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "application/json ;charset=UTF-8", "Application/JSON"]
)
def test_json_by_any_name(api: httpx.Client, kind: str) -> None:
    """A media type may have parameters; its case does not matter."""
    body = json.dumps({"name": "größer", "public_key": PUBLIC_KEY}, ensure_ascii=False).encode()
    answer = api.post(KEYS, content=body, headers={"Content-Type": kind})
    assert answer.status_code == 201, answer.text
    assert answer.json()["name"] == "größer"


def test_body_too_large(api: httpx.Client) -> None:
    """A body that is too large is refused."""
    body = {"name": "x", "public_key": PUBLIC_KEY, "colour": "x" * 1024 * 1024}
    assert_problem(api.post(KEYS, json=body), 413)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("identity", UNKNOWN_IDS)
def test_unknown_id(api: httpx.Client, method: str, identity: str) -> None:
    """Unknown ids answer 404 with a problem."""
    assert_problem(api.request(method, f"{KEYS}/{identity}"), 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", ""), ("PATCH", ""), ("POST", f"/{NOBODY}"), ("PATCH", f"/{NOBODY}")],
)
def test_no_such_method(api: httpx.Client, method: str, path: str) -> None:
    """Other methods answer 405 with a problem: a key cannot be changed."""
    assert_problem(api.request(method, KEYS + path, json={"name": "x"}), 405)


def test_delete(api: httpx.Client) -> None:
    """DELETE deletes one record and no other; the second time, it answers 404."""
    one, other = make(api), make(api)
    assert_deleted(api.delete(f"{KEYS}/{one['id']}"))
    assert_problem(api.get(f"{KEYS}/{one['id']}"), 404)
    assert_problem(api.delete(f"{KEYS}/{one['id']}"), 404)
    listed = api.get(KEYS).json()
    assert one not in listed
    assert other in listed


def test_delete_all(api: httpx.Client) -> None:
    """DELETE of the collection deletes all records."""
    record = make(api)
    assert_deleted(api.delete(KEYS))
    assert api.get(KEYS).json() == []
    assert_problem(api.get(f"{KEYS}/{record['id']}"), 404)
