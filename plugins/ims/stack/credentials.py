"""The secrets of an installation: generated once and kept below `IMS_HOME/secrets` with mode 0600."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import BaseModel

from ims.files import write_private
from ims.settings import Settings

TASK_USER = "ims-tasks"
_UNUSED = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
_CA_USAGE = x509.KeyUsage(
    **dict.fromkeys(_UNUSED, False), key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False
)


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
        )


def ensure_credentials(settings: Settings) -> Credentials:
    """Returns the credentials of the installation; the first call generates them."""
    settings.home.mkdir(parents=True, exist_ok=True)
    settings.secrets.mkdir(mode=0o700, exist_ok=True)
    path = settings.secrets / "credentials.json"
    if path.exists():
        return Credentials.model_validate_json(path.read_text())
    credentials = Credentials.generate()
    write_private(path, credentials.model_dump_json(indent=2))
    return credentials


def write_password_file(settings: Settings, credentials: Credentials) -> Path:
    """Write the file from which Airflow's simple auth manager reads passwords; returns its path."""
    path = settings.secrets / "passwords.json"
    passwords = {settings.admin_user: credentials.admin_password, TASK_USER: credentials.task_password}
    write_private(path, json.dumps(passwords))
    return path


def ensure_ca(settings: Settings) -> None:
    """Create a root CA for the site, unless one is configured or exists."""
    path = settings.ca_certificate_path
    if settings.ca_certificate is not None or path.exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "IMS site root CA")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(settings.secrets / "site-root-ca.key", private.decode())
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
