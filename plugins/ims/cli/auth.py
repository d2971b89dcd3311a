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
    url: Annotated[
        str, typer.Option(help="Address of the service, such as https://host/apis/ims.", envvar="IMS_URL")
    ] = "",
    username: Annotated[
        str, typer.Option(help="Your user name in Airflow. The default is your user name on this machine.")
    ] = "",
) -> None:
    """Log in with a password and store the token for later commands.

    The password is taken from IMS_PASSWORD, or else from a prompt or from standard input.
    """
    from ims.client import ImsClient

    stored = login.load() if not url else None
    if not url and stored is None:
        raise ConfigurationError(
            "the address of the service is unknown", "Give it: ims auth login --url https://host/apis/ims"
        )
    root = login.service_url(url) if stored is None else stored.url
    user = username or (stored.username if stored is not None else getpass.getuser())
    token = ImsClient(root, tls=login.tls()).token(user, _password(user, root))
    login.save(login.Login(root, user, token))
    expiry = login.expiry(token)
    say(f"logged in to {root} as {user}" + (f" until {expiry.astimezone():%Y-%m-%d %H:%M}" if expiry else ""))
    if os.environ.get("IMS_TOKEN"):
        say("IMS_TOKEN is set and overrides this login. To use the login: unset IMS_TOKEN")


@app.command("logout")
def log_out() -> None:
    """Remove the stored token."""
    login.forget()


def _password(user: str, root: str) -> str:
    if password := os.environ.get("IMS_PASSWORD"):
        return password
    if sys.stdin.isatty():
        return getpass.getpass(f"Password of {user} at {root}: ")
    return sys.stdin.readline().rstrip("\n")
