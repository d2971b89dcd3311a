"""The secrets of an installation: generated once and kept below `IMS_HOME/secrets` with mode 0600."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from cryptography.fernet import Fernet
from pydantic import BaseModel

from ims.files import write_private
from ims.settings import GATEWAY_USER, Settings
from ims.stack.certificates import make_ca

TASK_USER = "ims-tasks"


class Credentials(BaseModel):
    """The secrets that an installation generates for itself."""

    s3_access_key: str
    s3_secret_key: str
    admin_password: str
    task_password: str
    fernet_key: str
    jwt_secret: str
    api_secret_key: str
    filer_key: str
    gateway_password: str

    @classmethod
    def generate(cls) -> Credentials:
        """Returns new random credentials. Airflow requires at least 64 bytes for the secret of its tokens."""
        return cls(
            s3_access_key=secrets.token_hex(10).upper(),
            s3_secret_key=secrets.token_urlsafe(30),
            admin_password=secrets.token_urlsafe(12),
            task_password=secrets.token_urlsafe(30),
            fernet_key=Fernet.generate_key().decode(),
            jwt_secret=secrets.token_urlsafe(64),
            api_secret_key=secrets.token_urlsafe(32),
            filer_key=secrets.token_urlsafe(32),
            gateway_password=secrets.token_urlsafe(30),
        )


def ensure_credentials(settings: Settings) -> Credentials:
    """Returns the credentials of the installation; the first call generates them.

    After an upgrade, it generates those that earlier versions did not have.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    settings.secrets.mkdir(mode=0o700, exist_ok=True)
    found = _stored(settings)
    credentials = Credentials.model_validate({**Credentials.generate().model_dump(), **found})
    if credentials.model_dump() != found:
        write_private(_credentials_file(settings), credentials.model_dump_json(indent=2))
    return credentials


def find_credentials(settings: Settings) -> Credentials | None:
    """Returns the credentials of the installation, or None if it has none yet. Raises OSError if this user may not."""
    found = _stored(settings)
    return Credentials.model_validate({"gateway_password": "", **found}) if found else None


def _stored(settings: Settings) -> dict[str, str]:
    try:
        return dict(json.loads(_credentials_file(settings).read_text()))
    except FileNotFoundError:
        return {}


def _credentials_file(settings: Settings) -> Path:
    return settings.secrets / "credentials.json"


def write_password_file(settings: Settings, credentials: Credentials) -> Path:
    """Write the file from which Airflow's simple auth manager reads passwords; returns its path.

    The gateway reads its password from a file of its own.
    """
    path = settings.secrets / "passwords.json"
    passwords = {
        settings.admin_user: credentials.admin_password,
        TASK_USER: credentials.task_password,
        GATEWAY_USER: credentials.gateway_password,
    }
    write_private(path, json.dumps(passwords))
    write_private(settings.gateway_password, credentials.gateway_password)
    return path


def ensure_ca(settings: Settings) -> None:
    """Create a root CA for the site, unless one is configured or exists."""
    path = settings.ca_certificate_path
    if settings.ca_certificate is not None or path.exists():
        return
    ca = make_ca("IMS site root CA")
    write_private(settings.secrets / "site-root-ca.key", ca.key_pem)
    path.write_text(ca.certificate_pem)
