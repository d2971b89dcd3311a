"""`/public-keys`: the keys that can log in to the shells of jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import AfterValidator, Field

from ims.api.catalog.documents import Documents
from ims.api.catalog.listing import by_name, page
from ims.api.catalog.registration import register
from ims.api.http.auth import may_read, may_write, only_service
from ims.api.http.lists import PAGE
from ims.api.http.schemas import Id, Name, RecordOut, RequestBody
from ims.api.http.services import RecordsService
from ims.params import Identity
from ims.records.models import PublicKey
from ims.records.selection import Selection

router = APIRouter()
Selected = Annotated[Selection, Depends(by_name)]


_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    *(f"ecdsa-sha2-nistp{size}" for size in (256, 384, 521)),
    *("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"),
)
"""The types of keys that OpenSSH accepts. It no longer accepts DSA."""
_RSA_BITS = range(1024, 16384 + 1)
"""The sizes of RSA keys that OpenSSH accepts."""


def _openssh(text: str) -> str:
    """Returns the key as it was sent. Raises ValueError unless OpenSSH accepts it, apart from spaces around it."""
    key = text.strip()
    if "PRIVATE KEY" in key:
        raise ValueError("this is a private key: send the .pub file, and replace the key, which has left its machine")
    if not key.isprintable():
        raise ValueError("not an OpenSSH public key: it must be one line of text")
    kind = key.partition(" ")[0]
    if kind.endswith("-cert-v01@openssh.com"):
        raise ValueError(f"{kind} is a certificate: send the .pub file without -cert in its name")
    if kind not in _TYPES:
        raise ValueError(f"not an OpenSSH public key: it must begin with one of {', '.join(_TYPES)}")
    try:
        loaded = load_ssh_public_key(key.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"not an OpenSSH public key: {error}") from None
    if isinstance(loaded, RSAPublicKey) and loaded.key_size not in _RSA_BITS:
        raise ValueError(f"the RSA key has {loaded.key_size} bits; OpenSSH accepts {_RSA_BITS[0]} to {_RSA_BITS[-1]}")
    return text


class PublicKeyIn(RequestBody):
    """A new key, in the format of `~/.ssh/id_ed25519.pub`."""

    name: Name
    public_key: Annotated[str, Field(max_length=16384), AfterValidator(_openssh)]


class PublicKeyOut(RecordOut):
    """A public key."""

    public_key: str


class DeletedPublicKeyOut(PublicKeyOut):
    """A deleted key."""

    deleted: datetime


DOCUMENTS = Documents(PublicKey, PublicKeyOut)


@router.get("", dependencies=[may_read()], response_model=list[PublicKeyOut], responses=PAGE)
async def list_public_keys(request: Request, records: RecordsService, selection: Selected) -> Response:
    """List public keys, oldest first."""
    return await page(request, records, DOCUMENTS, selection)


@router.post("", status_code=201, dependencies=[may_write()], response_model=PublicKeyOut)
def create_public_key(body: PublicKeyIn, records: RecordsService) -> PublicKey:
    """Register a public key."""
    return records.add(PublicKey(name=body.name, public_key=body.public_key))


@router.put("/{id}", dependencies=only_service("id", "register the key with POST"), response_model=PublicKeyOut)
def put_public_key(
    identity: Annotated[Identity, Path(alias="id")], body: PublicKeyIn, records: RecordsService
) -> PublicKey:
    """Register a public key with a given id. The request can be repeated: the second time, it changes nothing."""

    def is_same(known: PublicKey) -> bool:
        return (known.name, known.public_key) == (body.name, body.public_key)

    return register(records, PublicKey, identity, lambda: PublicKey(**body.model_dump()), is_same)


@router.get("/{id}", dependencies=[may_read()], response_model=PublicKeyOut)
async def get_public_key(identity: Id, records: RecordsService) -> Response:
    """Get a public key."""
    return await DOCUMENTS.get(records, identity)
