"""The address of the service and the token for it: from the environment, or else from `ims auth login`."""

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
    """A token, the only service that may receive it, and its user."""

    url: str
    username: str
    token: str


def path() -> Path:
    """Return the path of the file that stores the login."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "ims" / "token"


def load() -> Login | None:
    """Return the stored login, or None. Raises ConfigurationError if the file cannot be parsed."""
    try:
        return Login(**json.loads(path().read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise ConfigurationError(f"{path()} does not contain a login", HOW) from None


def save(login: Login) -> None:
    """Store a login so that only the user can read it."""
    path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path(), json.dumps(asdict(login)))


def forget() -> None:
    """Remove the stored login."""
    path().unlink(missing_ok=True)


def service_url(text: str) -> str:
    """Return the root of the service at an address, which may or may not include the path of the API.

    Raises ConfigurationError if it is not an http or https address.
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
    """Return a context that trusts the system's CAs (or those in SSL_CERT_FILE) and the one in IMS_CA_CERTIFICATE."""
    context = ssl.create_default_context()
    if site := os.environ.get("IMS_CA_CERTIFICATE"):
        try:
            context.load_verify_locations(site)
        except OSError as error:  # includes ssl.SSLError
            raise ConfigurationError(
                f"IMS_CA_CERTIFICATE={site} is not a certificate: {error.strerror or error}", "Set it to a PEM file"
            ) from None
    return context


def connect() -> ImsClient:
    """Return a client of the service.

    Raises LoginError if the user is not logged in, and ConfigurationError if the environment is incomplete.
    """
    from ims.client import ImsClient

    return ImsClient(*_access(), tls())


def _access() -> tuple[str, str]:
    url, token = os.environ.get("IMS_URL"), os.environ.get("IMS_TOKEN")
    if token:
        if not url:
            raise ConfigurationError(
                "IMS_TOKEN is set but IMS_URL is not", "Set IMS_URL to the service that issued the token"
            )
        return service_url(url), token
    login = load()
    if login is None:
        raise LoginError("you are not logged in", HOW)
    if url and service_url(url) != login.url:
        raise LoginError(f"the login is for {login.url}, not for {service_url(url)}", f"{HOW} --url {url}")
    expires = expiry(login.token)
    if expires is not None and expires < datetime.now(UTC):
        raise LoginError(
            f"the login of {login.username} at {login.url} expired at {expires.astimezone():%Y-%m-%d %H:%M}",
            "Log in again: ims auth login",
        )
    return login.url, login.token


def expiry(token: str) -> datetime | None:
    """Return when a token expires according to its claims, or None if it has none. The service verifies the token."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (IndexError, ValueError, KeyError, TypeError, OverflowError):
        return None
