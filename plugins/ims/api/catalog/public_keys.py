"""`/public-keys`: the keys that can log in to the shells of jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, Field

from ims.api.catalog.listing import by_name, page
from ims.api.http.auth import may_read, may_write
from ims.api.http.lists import PAGE
from ims.api.http.schemas import Id, Name, RecordOut, RequestBody
from ims.api.http.services import RecordsService
from ims.records.models import PublicKey
from ims.records.selection import Selection

router = APIRouter()
Selected = Annotated[Selection, Depends(by_name)]


def _openssh(text: str) -> str:
    text = text.strip()
    try:
        if not text.isprintable():
            raise ValueError("it must be one line of text")
        load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"not an OpenSSH public key: {error}") from None
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


@router.get("", dependencies=[may_read()], response_model=list[PublicKeyOut], responses=PAGE)
def list_public_keys(request: Request, response: Response, records: RecordsService, selection: Selected) -> Any:
    """List public keys, oldest first."""
    return page(request, response, records, PublicKey, PublicKeyOut, selection)


@router.post("", status_code=201, dependencies=[may_write()], response_model=PublicKeyOut)
def create_public_key(body: PublicKeyIn, records: RecordsService) -> PublicKey:
    """Register a public key."""
    return records.add(PublicKey(name=body.name, public_key=body.public_key))


@router.get("/{id}", dependencies=[may_read()], response_model=PublicKeyOut)
def get_public_key(identity: Id, records: RecordsService) -> PublicKey:
    """Get a public key."""
    return records.get(PublicKey, identity)
