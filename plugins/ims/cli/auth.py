"""`ims auth`: log in and out."""

from __future__ import annotations

import getpass
import os
import sys
from typing import Annotated

import typer

from ims.cli import login
from ims.cli.options import group
from ims.cli.output import say
from ims.errors import ConfigurationError

app = group("auth", "Log in and out.")


@app.command("login")
def log_in(
    url: Annotated[str, typer.Option(help="The service, e.g. https://host/apis/ims.", envvar="IMS_URL")] = "",
    username: Annotated[str, typer.Option(help="Your name in Airflow; yours on this machine if not given.")] = "",
) -> None:
    """Get a token with your password and keep it for this service.

    The password is asked for, or read from IMS_PASSWORD or from standard input.
    """
    from ims.client import ImsClient

    known = login.load() if not url else None
    if not url and known is None:
        raise ConfigurationError("the service is not known", "Name it: ims auth login --url https://host/apis/ims")
    root = login.service_url(url) if known is None else known.url
    user = username or (known.username if known is not None else getpass.getuser())
    token = ImsClient(root, tls=login.tls()).token(user, _password(user, root))
    login.save(login.Login(root, user, token))
    ended = login.expiry(token)
    say(f"logged in to {root} as {user}" + (f" until {ended.astimezone():%Y-%m-%d %H:%M}" if ended else ""))
    if os.environ.get("IMS_TOKEN"):
        say("IMS_TOKEN is set and goes before it: unset IMS_TOKEN")


@app.command("logout")
def log_out() -> None:
    """Forget the token."""
    login.forget()


def _password(user: str, root: str) -> str:
    if given := os.environ.get("IMS_PASSWORD"):
        return given
    if sys.stdin.isatty():
        return getpass.getpass(f"Password of {user} at {root}: ")
    return sys.stdin.readline().rstrip("\n")
