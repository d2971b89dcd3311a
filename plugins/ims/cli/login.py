"""Where the service is, and the token for it: from the environment, else from `ims auth login`."""

from __future__ import annotations

import base64
import json
import os
import ssl
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ims.errors import ConfigurationError, LoginError
from ims.files import write_private

if TYPE_CHECKING:
    from ims.client import ImsClient

HOW = "Log in: ims auth login"


@dataclass(frozen=True)
class Login:
    """A token, the only service that it is sent to, and whose it is."""

    url: str
    username: str
    token: str


def path() -> Path:
    """The file of the login."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "ims" / "token"


def load() -> Login | None:
    """The login that was kept, if there is one. Raises ConfigurationError: the file is something else."""
    try:
        return Login(**json.loads(path().read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise ConfigurationError(f"{path()} is not a login of ours", HOW) from None


def save(login: Login) -> None:
    """Keep a login, readable by the user only."""
    path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path(), json.dumps(asdict(login)))


def forget() -> None:
    """Remove the login that was kept."""
    path().unlink(missing_ok=True)


def service_url(text: str) -> str:
    """The root of the service whose address a user gave, with or without the path of the API.

    Raises ConfigurationError: it is no http or https address.
    """
    try:
        url = urlsplit(text.strip())
        usable = url.scheme in ("http", "https") and url.hostname and url.username is None and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"{text!r} is not the address of a service", "Write it as https://host/apis/ims")
    root = url.path.rstrip("/").removesuffix("/v3").removesuffix("/apis/ims").rstrip("/")
    return f"{url.scheme}://{url.netloc.lower()}{root}"


def tls() -> ssl.SSLContext:
    """The system's certificates (or those of SSL_CERT_FILE) and the site's (IMS_CA_CERTIFICATE) are trusted."""
    context = ssl.create_default_context()
    if site := os.environ.get("IMS_CA_CERTIFICATE"):
        try:
            context.load_verify_locations(site)
        except OSError as error:  # ssl.SSLError is one too
            raise ConfigurationError(
                f"IMS_CA_CERTIFICATE={site} is not a certificate: {error.strerror or error}", "Name a PEM file"
            ) from None
    return context


def connect() -> ImsClient:
    """A client of the service. Raises LoginError: nobody is logged in; ConfigurationError."""
    from ims.client import ImsClient

    return ImsClient(*_access(), tls())


def _access() -> tuple[str, str]:
    url, token = os.environ.get("IMS_URL"), os.environ.get("IMS_TOKEN")
    if token:
        if not url:
            raise ConfigurationError(
                "IMS_TOKEN is set but IMS_URL is not", "Set it to the service that the token is of"
            )
        return service_url(url), token
    login = load()
    if login is None:
        raise LoginError("nobody is logged in", HOW)
    if url and service_url(url) != login.url:
        raise LoginError(f"the login is for {login.url}, not for {service_url(url)}", f"{HOW} --url {url}")
    ended = expiry(login.token)
    if ended is not None and ended < datetime.now(UTC):
        raise LoginError(
            f"the login of {login.username} at {login.url} ended at {ended.astimezone():%Y-%m-%d %H:%M}",
            "Log in again: ims auth login",
        )
    return login.url, login.token


def expiry(token: str) -> datetime | None:
    """When a token ends, as it says itself; the service checks it."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (IndexError, ValueError, KeyError, TypeError, OverflowError):
        return None
