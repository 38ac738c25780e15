"""A tiny certificate authority: one good certificate, and one for each way of being bad."""

from __future__ import annotations

import datetime
import ssl
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
NAME = "good.test"


@dataclass(frozen=True, slots=True)
class Certificate:
    """Chain and key as files in PEM."""

    chain: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


class Authority:
    """``root`` is what a client trusts."""

    def __init__(self, directory: Path, title: str) -> None:
        self.directory = directory
        directory.mkdir()
        self.root = directory / "root.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
        key_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        usage = x509.KeyUsage(*[position in (5, 6) for position in range(9)])  # sign certs, CRLs
        builder = self._builder(self._name, self._key.public_key(), (-1, 30), self._name)
        builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
        builder = builder.add_extension(usage, critical=True).add_extension(key_id, critical=False)
        self._root = builder.sign(self._key, hashes.SHA256())
        self.root.write_bytes(self._root.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        stem: str,
        *,
        names: Sequence[str] = (NAME,),
        days: tuple[int, int] = (-1, 30),
        subject: str = "",
        key_id: bool = True,
        self_signed: bool = False,
        usage: x509.ObjectIdentifier | None = None,
    ) -> Certificate:
        """``days`` is from and until, counted from today; ``subject`` the common name."""
        key = ec.generate_private_key(ec.SECP256R1())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a subject beyond 64 characters is meant
            common = x509.NameAttribute(NameOID.COMMON_NAME, subject or stem, _validate=False)
        title = x509.Name([common])
        issuer = title if self_signed else self._name
        builder = self._builder(title, key.public_key(), days, issuer).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        if key_id:
            signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
            builder = builder.add_extension(signer, critical=False)
        made = builder.sign(key if self_signed else self._key, hashes.SHA256())
        chain, key_file = self.directory / f"{stem}.pem", self.directory / f"{stem}.key"
        chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return Certificate(chain, key_file)

    @staticmethod
    def _builder(
        subject: x509.Name, key: ec.EllipticCurvePublicKey, days: tuple[int, int], issuer: x509.Name
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder(issuer, subject, key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
        )
