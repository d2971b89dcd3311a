"""`ims public-keys`: the keys that may log in to the shells of jobs."""

from __future__ import annotations

from typing import Annotated, TextIO

import typer

from ims.cli.login import connect
from ims.cli.options import NameOption, group
from ims.cli.output import FormatOption, show_record
from ims.cli.resources import PUBLIC_KEYS, add_verbs
from ims.errors import InputError

app = group("public-keys", "Manage public keys, which may log in to the shells of jobs.")
add_verbs(app, PUBLIC_KEYS)

_PRIVATE = ("PRIVATE KEY", "PuTTY-User-Key-File")
_PUBLIC = ("ssh-", "ecdsa-", "sk-")


@app.command()
def create(
    name: NameOption,
    public_key: Annotated[
        typer.FileText, typer.Option(help="File of the public key, such as ~/.ssh/id_rsa.pub.", show_default=False)
    ],
    _format: FormatOption = None,
) -> None:
    """Register a public key."""
    show_record(connect().create(PUBLIC_KEYS.path, name=name, public_key=_read(public_key)))


def _read(file: TextIO) -> str:
    """Return the public key in a file.

    Raises InputError if the file contains anything else, so that neither a private key nor another secret leaves this
    machine.
    """
    try:
        text = file.read()
    except UnicodeDecodeError:
        text = ""
    if any(mark in text for mark in _PRIVATE):
        raise InputError(f"{file.name} contains a private key, which was not sent", f"Use {file.name}.pub")
    if not text.lstrip().startswith(_PUBLIC):
        raise InputError(
            f"{file.name} is not an OpenSSH public key and was not sent", "Use a file such as ~/.ssh/id_ed25519.pub"
        )
    return text
