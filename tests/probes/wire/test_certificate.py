import hashlib
import ssl
import time
import warnings
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from probes.model import Failure
from probes.wire.certificate import facts, read_anchors
from probes.wire.error import WireError

KEY = ec.generate_private_key(ec.SECP256R1())
BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
END = datetime(2051, 1, 2, tzinfo=UTC)
EVIL = "\x1b[31m<script>\u202e\x1b]0;owned\x07alert(1)\n\u200b</script>"
EVIL_CLEANED = "<script>alert(1) </script>"


def name(common=None, organisation=None, country=None, unit=None):
    pairs = [
        (NameOID.COUNTRY_NAME, country),
        (NameOID.ORGANIZATION_NAME, organisation),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
        (NameOID.COMMON_NAME, common),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overlong on purpose
        return x509.Name(
            x509.NameAttribute(oid, text, _validate=False) for oid, text in pairs if text
        )


def certificate(subject, issuer=None, names=(), serial=0x11223344):
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(name("issuer") if issuer is None else issuer)
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def dns_names(*texts):
    return [x509.DNSName(text) for text in texts]


LEAF = certificate(
    name("web.example", "Example Ltd", "DE"), names=dns_names("web.example", "*.web.example")
)


def test_reads_a_plain_certificate():
    assert facts([LEAF, b"whatever follows is counted, not read"]) == {
        "certificate_subject": "web.example",
        "certificate_issuer": "issuer",
        "certificate_names": "web.example,*.web.example",
        "certificate_not_before": BEGIN.timestamp(),
        "certificate_not_after": END.timestamp(),
        "certificate_sha256": hashlib.sha256(LEAF).hexdigest(),
        "chain_length": 2,
    }


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (name("common", "organisation", "DE"), "common"),
        (name(None, "organisation", "DE"), "organisation"),
        (name(None, None, "DE"), "C=DE"),
        (name(), ""),
    ],
)
def test_a_name_is_the_best_there_is(subject, expected):
    found = facts([certificate(subject, subject)])
    assert found["certificate_subject"] == expected
    assert found["certificate_issuer"] == expected


def test_only_the_first_five_dns_names_are_kept():
    names = [x509.RFC822Name("me@web.example"), *dns_names(*(f"n{i}.example" for i in range(9)))]
    found = facts([certificate(name("x"), names=names)])
    assert found["certificate_names"] == "n0.example,n1.example,n2.example,n3.example,n4.example"


@pytest.mark.parametrize("field", ["common", "organisation", "unit"])
def test_hostile_text_is_cleaned_wherever_it_stands(field):
    evil = name(**{field: EVIL})
    found = facts([certificate(evil, evil)])
    for key in ("certificate_subject", "certificate_issuer"):
        # A bare unit is shown as a whole name (RFC 4514), which escapes the markup itself.
        assert found[key].replace("OU=", "").replace("\\", "") == EVIL_CLEANED
        assert found[key].isprintable()


def test_hostile_dns_names_are_cleaned():
    names = dns_names("\x1b[31m<b>.example", "x" * 60000, "ok.example")
    found = facts([certificate(name("x"), names=names)])
    assert found["certificate_names"] == "<b>.example," + "x" * 119 + "…,ok.example"


@pytest.mark.parametrize("field", ["common", "organisation", "unit"])
def test_a_subject_of_64_kib_is_cut_in_a_moment(field):
    long = name(**{field: "\x1b[31mx" * 11000})
    leaf = certificate(long, long)
    assert len(leaf) > 65536
    begin = time.process_time()
    found = facts([leaf])
    assert time.process_time() - begin < 1
    assert len(found["certificate_subject"]) == 120
    assert len(found["certificate_issuer"]) == 120


def test_oddities_that_cryptography_warns_about_are_no_failure():
    negative = LEAF.replace(bytes.fromhex("020411223344"), bytes.fromhex("020491223344"))
    assert negative != LEAF
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert facts([negative])["certificate_subject"] == "web.example"
        assert facts([certificate(name("y" * 100))])["certificate_subject"] == "y" * 100


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\x82\x0bweb.example", b"\x82\x0bweb.\xff\xff\xff\xff\xff\xff\xff"),  # not ASCII
        (b"\x82\x0bweb.example", b"\xa3\x0bweb.example"),  # an X.400 address
        (b"\x82\x0bweb.example", b"\x82\x7fweb.example"),  # longer than the extension
    ],
)
def test_unreadable_names_hide_nothing_else(old, new):
    assert LEAF.count(old) == 1
    found = facts([LEAF.replace(old, new)])
    assert found["certificate_names"] == ""
    assert found["certificate_subject"] == "web.example"


def test_a_bit_string_among_the_names_hides_nothing_else():
    leaf = certificate(name("x"), names=[x509.DirectoryName(name("inside"))])
    odd = leaf.replace(b"\x0c\x06inside", b"\x03\x06\x00nside")
    assert odd != leaf
    assert facts([odd])["certificate_subject"] == "x"


def test_a_repeated_extension_hides_nothing_else():
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), b"\x05\x00")
    also = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.98"), b"\x05\x00")
    builder = x509.CertificateBuilder(extensions=[]).subject_name(name("x"))
    builder = builder.issuer_name(name("x")).public_key(KEY.public_key()).serial_number(7)
    builder = builder.not_valid_before(BEGIN).not_valid_after(END)
    builder = builder.add_extension(odd, critical=False).add_extension(also, critical=False)
    leaf = builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)
    doubled = leaf.replace(b"\x06\x03\x55\x1d\x62", b"\x06\x03\x55\x1d\x63")
    assert doubled != leaf
    assert facts([doubled])["certificate_names"] == ""


BIT_STRING = LEAF.replace(b"\x0c\x0bweb.example", b"\x03\x0b\x00eb.example")

REFUSALS = [
    ("no chain", []),
    ("empty", [b""]),
    ("not DER", [b"-----BEGIN CERTIFICATE-----"]),
    ("cut", [LEAF[:-1]]),
    ("trailing", [LEAF + b"\0"]),
    ("version 5", [LEAF.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04")]),
    ("bit string as a name", [BIT_STRING]),
    ("not UTF-8", [LEAF.replace(b"Example Ltd", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")]),
    ("no such month", [LEAF.replace(b"260102030405Z", b"261302030405Z")]),
]


@pytest.mark.parametrize("chain", [row[1] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_refuses(chain):
    assert chain != [LEAF]
    with pytest.raises(WireError) as caught:
        facts(chain)
    assert caught.value.failure is Failure.BAD_CERTIFICATE
    assert str(caught.value).isprintable()


def outcome(data):
    try:
        found = facts([data])
    except WireError:
        return
    assert len(found["certificate_subject"]) <= 120
    assert len(found["certificate_names"]) <= 5 * 121


@given(st.binary(max_size=300))
def test_arbitrary_bytes(data):
    outcome(data)


@given(st.data())
def test_damaged_certificates(mutated, data):
    outcome(data.draw(mutated(LEAF)))


@given(st.integers(0, len(LEAF) - 1), st.integers(0, 255))
def test_one_wrong_byte(at, value):
    """Leaves the lengths right more often than not, so that the fields are reached."""
    outcome(LEAF[:at] + bytes([value]) + LEAF[at + 1 :])


def test_anchors_in_pem_one_after_another():
    made = [certificate(name(common=text)) for text in ("one", "two")]
    pem = "".join(map(ssl.DER_cert_to_PEM_cert, made))
    assert read_anchors(pem) == read_anchors(pem.replace("\n", " ")) == made
    for spoiled in (pem[:-4], "x" + pem, pem + "x", pem.replace("MII", "MI", 1)):
        with pytest.raises(WireError):
            read_anchors(spoiled)


@given(
    st.text(max_size=200)
    | st.text(max_size=60).map(
        lambda text: f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
    )
)
def test_what_is_no_anchor_is_said_so(text):
    with pytest.raises(WireError) as caught:
        read_anchors(text)
    assert caught.value.failure is Failure.BAD_CERTIFICATE
