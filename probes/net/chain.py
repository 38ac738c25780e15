"""A certificate chain verified as a client does, where no TLS library of ours does it."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from functools import lru_cache

import certifi
import service_identity
from cryptography import x509
from OpenSSL import crypto
from service_identity import cryptography as identity

from probes.model import Failure
from probes.trail import by_verify_code
from probes.wire.error import WireError
from probes.wire.text import clean


def verify(chain: Sequence[bytes], name: str, ca_file: str = "") -> None:
    """Dates, name (or address) and issuer of a chain in DER, leaf first, in this order; trusts
    whom ``tls.py`` does.

    Raises WireError: EXPIRED, WRONG_NAME, UNKNOWN_ISSUER, BAD_CERTIFICATE.
    """
    if not chain:
        raise WireError(Failure.BAD_CERTIFICATE, "the server sent no certificate")
    try:
        _verify([x509.load_der_x509_certificate(der) for der in chain], name, ca_file)
    except (ValueError, TypeError, crypto.Error) as error:
        raise WireError(Failure.BAD_CERTIFICATE, clean(str(error))) from error


def _verify(chain: Sequence[x509.Certificate], name: str, ca_file: str) -> None:
    leaf, *others = chain
    now = datetime.datetime.now(datetime.UTC)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise WireError(Failure.EXPIRED, f"valid until {leaf.not_valid_after_utc}")
    try:
        if _is_address(name):
            identity.verify_certificate_ip_address(leaf, name)
        else:
            identity.verify_certificate_hostname(leaf, name)
    except (service_identity.VerificationError, service_identity.CertificateError) as error:
        raise WireError(Failure.WRONG_NAME, f"not for {name}") from error
    wrapped = [crypto.X509.from_cryptography(c) for c in others]
    context = crypto.X509StoreContext(_store(ca_file), crypto.X509.from_cryptography(leaf), wrapped)
    try:
        context.verify_certificate()
    except crypto.X509StoreContextError as error:
        raise WireError(by_verify_code(int(error.errors[0])), clean(str(error))) from error


@lru_cache(maxsize=4)  # reading a system's anchors costs 30 ms
def _store(ca_file: str) -> crypto.X509Store:
    store = crypto.X509Store()
    system = ssl.get_default_verify_paths()
    if system.cafile or system.capath:
        store.load_locations(system.cafile, system.capath)
    else:
        store.load_locations(certifi.where())
    if ca_file:
        store.load_locations(ca_file)
    return store


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
