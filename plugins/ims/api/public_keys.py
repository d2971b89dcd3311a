"""`/public-keys`: keys that may log in to the shells of jobs."""

from __future__ import annotations

from typing import Annotated

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from fastapi import APIRouter
from pydantic import AfterValidator, Field

from ims.api.access import may_delete, may_read, may_write
from ims.api.schemas import Name, RecordOut, RequestBody
from ims.api.services import RecordsService
from ims.records.models import PublicKey

router = APIRouter(prefix="/public-keys", tags=["public-keys"])


def _openssh(text: str) -> str:
    text = text.strip()
    try:
        if not text.isprintable():
            raise ValueError("it is not one line of text")
        load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"not an OpenSSH public key: {error}") from None
    return text


class PublicKeyIn(RequestBody):
    """A new key, as it stands in `~/.ssh/id_ed25519.pub`."""

    name: Name
    public_key: Annotated[str, Field(max_length=16384), AfterValidator(_openssh)]


class PublicKeyOut(RecordOut):
    """A key."""

    public_key: str


@router.get("", dependencies=[may_read()], response_model=list[PublicKeyOut])
def list_public_keys(records: RecordsService) -> list[PublicKey]:
    """All keys."""
    return records.list(PublicKey)


@router.post("", status_code=201, dependencies=[may_write()], response_model=PublicKeyOut)
def create_public_key(body: PublicKeyIn, records: RecordsService) -> PublicKey:
    """Keep a key."""
    return records.add(PublicKey(name=body.name, public_key=body.public_key))


@router.delete("", status_code=204, dependencies=[may_delete()])
def delete_public_keys(records: RecordsService) -> None:
    """Delete all keys."""
    records.delete_all(PublicKey)


@router.get("/{public_key_id}", dependencies=[may_read()], response_model=PublicKeyOut)
def get_public_key(public_key_id: str, records: RecordsService) -> PublicKey:
    """One key."""
    return records.get(PublicKey, public_key_id)


@router.delete("/{public_key_id}", status_code=204, dependencies=[may_delete()])
def delete_public_key(public_key_id: str, records: RecordsService) -> None:
    """Delete a key."""
    records.delete(PublicKey, public_key_id)
