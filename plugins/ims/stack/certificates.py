"""X.509 certificates that an installation makes for itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 3650
_UNUSED = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
_CA_USAGE = x509.KeyUsage(
    **dict.fromkeys(_UNUSED, False), key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False
)
_BOTH_SIDES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> str:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        """The private key as PEM, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()


def make_ca(name: str) -> Pair:
    """Returns a root CA that can only sign."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_name(name), _name(name), key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def issue(ca: Pair, host: str) -> Pair:
    """Returns a certificate for the server at the address or name `host`, which is also valid for clients."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_name(host), ca.certificate.subject, key)
        .add_extension(x509.SubjectAlternativeName([_alternative(host)]), critical=False)
        .add_extension(_BOTH_SIDES, critical=False)
    )
    return Pair(builder.sign(ca.key, hashes.SHA256()), key)


def is_valid(certificate: x509.Certificate, host: str, days: int) -> bool:
    """Whether a certificate is for `host` and stays valid for so many days."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return _alternative(host) in names and certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=days)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=DAYS))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
