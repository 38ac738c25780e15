"""What a server's certificate chain says about itself."""

from __future__ import annotations

import base64
import hashlib
import re
import warnings
from collections.abc import Sequence
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from probes.model import Failure
from probes.wire.error import WireError
from probes.wire.text import clean

MAX_NAMES = 5
_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----\s*", re.ASCII
)


def facts(chain: Sequence[bytes]) -> dict[str, str | int | float]:
    """Facts from a DER chain, leaf first; dates are Unix seconds, texts are cleaned.

    ``certificate_subject`` and ``certificate_issuer`` are the common name, else the organisation,
    else the whole name. ``certificate_names`` is the first five DNS names, "" if there are none.
    Nothing is verified. Raises WireError(BAD_CERTIFICATE) if the leaf cannot be read.
    """
    if not chain:
        raise WireError(Failure.BAD_CERTIFICATE, "the server sent no certificate")
    return {**_of_leaf(chain[0]), "chain_length": len(chain)}


@lru_cache(maxsize=512)  # a server shows the same certificate for months
def _of_leaf(der: bytes) -> dict[str, str | int | float]:
    with warnings.catch_warnings():
        # cryptography warns about oddities that are the sender's affair and not a bug of ours.
        warnings.simplefilter("ignore")
        try:
            leaf = x509.load_der_x509_certificate(der)
            return {
                "certificate_subject": _title(leaf.subject),
                "certificate_issuer": _title(leaf.issuer),
                "certificate_names": _dns_names(leaf),
                "certificate_not_before": leaf.not_valid_before_utc.timestamp(),
                "certificate_not_after": leaf.not_valid_after_utc.timestamp(),
                "certificate_sha256": hashlib.sha256(der).hexdigest(),
            }
        except (ValueError, TypeError, x509.InvalidVersion) as exc:
            # TypeError: a name that holds a bit string where a text belongs.
            raise WireError(Failure.BAD_CERTIFICATE, clean(str(exc))) from exc


def _title(name: x509.Name) -> str:
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(oid):
            return clean(attribute.value)
    return clean(name.rfc4514_string())


def _dns_names(leaf: x509.Certificate) -> str:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        ValueError,
        TypeError,
    ):
        # One unreadable extension is no reason to keep silent about the rest.
        return ""
    names = extension.value.get_values_for_type(x509.DNSName)
    return ",".join(clean(name) for name in names[:MAX_NAMES])


def read_anchors(pem: str) -> list[bytes]:
    """Trust anchors in PEM (RFC 7468), one after another, to DER. Lines may be folded: any white
    space will do where a line ends, since texts in YAML files are folded.

    Raises WireError BAD_CERTIFICATE where there is none, one of them is none, or anything else is
    there.
    """
    found, rest = [], pem.strip()
    while rest:
        block = _BLOCK.match(rest)
        if block is None:
            break
        found.append(_anchor("".join(block[1].split())))
        rest = rest[block.end() :]
    if rest or not found:
        raise WireError(Failure.BAD_CERTIFICATE, "no certificates in PEM")
    return found


def _anchor(text: str) -> bytes:
    try:
        der = base64.b64decode(text, validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x509.load_der_x509_certificate(der)
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise WireError(Failure.BAD_CERTIFICATE, clean(str(error))) from error
    return der
