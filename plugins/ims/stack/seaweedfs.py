"""SeaweedFS, the embedded S3: its command line, and what closes its internal ports.

Only the port of S3 is for clients. The master, the volume server and the filer talk to each other over HTTP and gRPC,
and without a configuration they obey everybody who reaches their ports. So all of them require a certificate that only
this process has.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cryptography import x509

from ims.files import write_private
from ims.settings import Settings, settings
from ims.stack import certificates
from ims.stack.credentials import Credentials, ensure_credentials
from ims.stack.roles import roles_file, write_roles
from ims.supervisord import BIN

_COMPONENTS = ("master", "volume", "filer", "admin")
_GRPC_ONLY = ("s3", "worker", "client", "msg_broker", "msg_agent", "mq")
_TOKENS = ("signing", "signing.read", "filer_signing", "filer_signing.read")
_RENEW_DAYS = 365
EXPECTS_TLS = "Client sent an HTTP request to an HTTPS server.\n"
"""How a closed port answers a request without TLS."""


def folder(settings: Settings) -> Path:
    """The folder of the objects and of the configuration."""
    return settings.home / "s3"


def command(settings: Settings) -> tuple[str, ...]:
    """The command line: one process that serves only S3, and only on the configured address."""
    internal = settings.s3_internal_port
    options = {
        "dir": folder(settings),
        "ip": settings.host,
        "ip.bind": settings.host,
        "bucket": f"{settings.recipes_bucket},{settings.images_bucket}",
        "s3.port": settings.s3_port,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.allowDeleteBucketNotEmpty": "false",
        "s3.autoCreateBucket": "false",
        "s3.iam.config": roles_file(settings),
        "master.port": internal,
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 1024,
        "volume.port": internal + 1,
        "filer.port": internal + 2,
        "filer.localSocket": settings.home / "run" / "filer.sock",
        "admin.port": internal + 3,
        "admin.ui": "false",
        "webdav": "false",
    }
    return (str(BIN / "weed"), "mini", *(f"-{name}={value}" for name, value in options.items()))


def configure(settings: Settings, credentials: Credentials) -> None:
    """Write the certificates, the configuration and the role of SeaweedFS, which must not be running."""
    folder(settings).mkdir(mode=0o700, exist_ok=True)
    write_private(folder(settings) / "security.toml", _security(_ensure_certificates(settings), credentials.filer_key))
    write_roles(settings, credentials)


def configure_container() -> None:
    """Write the configuration below IMS_HOME for a SeaweedFS that runs elsewhere, with the keys in AWS_*."""
    keys = {"s3_access_key": os.environ["AWS_ACCESS_KEY_ID"], "s3_secret_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    own = settings()
    configure(own, ensure_credentials(own).model_copy(update=keys))


def _ensure_certificates(settings: Settings) -> dict[str, Path]:
    """Make the certificate of all components, unless it exists. Nobody keeps the key of the CA that signs it."""
    files = {name: settings.secrets / f"s3-{name}.pem" for name in ("ca", "cert", "key")}
    if not _is_usable(files["cert"], settings.host):
        ca = certificates.make_ca("IMS embedded S3")
        own = certificates.issue(ca, settings.host)
        write_private(files["ca"], ca.certificate_pem)
        write_private(files["key"], own.key_pem)
        write_private(files["cert"], own.certificate_pem)
    return files


def _is_usable(path: Path, host: str) -> bool:
    return path.exists() and certificates.is_valid(
        x509.load_pem_x509_certificate(path.read_bytes()), host, days=_RENEW_DAYS
    )


def _security(files: dict[str, Path], token_key: str) -> str:
    """The content of security.toml. The tokens protect the filer's socket, which has no TLS."""
    identity = {name: str(files[name]) for name in ("cert", "key")}
    ca = {"ca": str(files["ca"])}
    sections: dict[str, dict[str, str | bool]] = {f"jwt.{name}": {"key": token_key} for name in _TOKENS}
    sections["grpc"] = {**ca}
    sections |= {f"grpc.{name}": {**identity} for name in (*_COMPONENTS, *_GRPC_ONLY)}
    sections |= {f"https.{name}": {**identity, **ca} for name in _COMPONENTS}
    sections["https.client"] = {"enabled": True, **identity, **ca}
    # A string or a boolean of JSON is one of TOML.
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        for name, values in sections.items()
    )


if __name__ == "__main__":
    configure_container()
