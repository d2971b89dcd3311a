"""`ims public-keys`: keys that may log in to the shells of jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from ims.cli.login import connect
from ims.cli.options import NameOption, group
from ims.cli.output import FormatOption, show_record
from ims.cli.resources import PUBLIC_KEYS, add_verbs

app = group("public-keys", "Public keys, which may log in to the shells of jobs.")
add_verbs(app, PUBLIC_KEYS)


@app.command()
def create(
    name: NameOption,
    public_key: Annotated[typer.FileText, typer.Option(help="The file, as ~/.ssh/id_rsa.pub.", show_default=False)],
    _format: FormatOption = None,
) -> None:
    """Register a public key."""
    show_record(connect().create(PUBLIC_KEYS.path, name=name, public_key=public_key.read()))
