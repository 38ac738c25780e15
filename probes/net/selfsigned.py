"""A certificate of our own making, for a server whose fingerprint its clients know."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from probes.net.files import create_private

LIFETIME = datetime.timedelta(days=3650)
NAME = "localhost"
"""What the certificate says to strangers: as little as there is to say."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A TLS server's context, and the SHA-256 of its certificate in hexadecimal."""

    context: ssl.SSLContext
    sha256: str


def identity(path: Path) -> Identity:
    """Key and certificate in PEM at ``path``, made there (mode 0600) when it does not exist.

    Raises OSError (``ssl.SSLError`` and an unreadable file are), ValueError for what is no PEM.
    """
    if not path.exists():
        create_private(path, _make())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    der = ssl.PEM_cert_to_DER_cert(_certificate_of(path.read_text("ascii")))
    return Identity(context, hashlib.sha256(der).hexdigest())


def _certificate_of(text: str) -> str:
    begin = text.find("-----BEGIN CERTIFICATE-----")
    if begin < 0:
        raise ValueError("holds no PEM certificate")
    return text[begin:].strip()


def _make() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(yesterday)
        .not_valid_after(yesterday + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + made.public_bytes(serialization.Encoding.PEM)
