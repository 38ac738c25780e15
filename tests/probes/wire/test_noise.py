import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.model import Failure
from probes.noise import HEADER, ROOT
from probes.wire import noise, protobuf
from probes.wire.error import WireError
from tests.lab import xeddsa
from tests.lab.noise import DAY, ChatHost, Vault, public_of

SECRET = bytes(range(32))
WEB = bytes.fromhex(HEADER)
VAULT = Vault()
CHAIN = VAULT.chain()


def greeted(chain=CHAIN, header=WEB, host_header=WEB, change=bytes, vault=VAULT):
    """The client, and the message with which a host answered its hello."""
    shake = noise.Handshake(header, SECRET)
    answer = ChatHost(vault.static, chain, host_header, change).said(shake.hello())
    return shake, noise.Reader().feed(answer)


# Check values of the notes


def test_the_roots_form_as_an_edwards_key():
    assert ROOT == "142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b"
    assert noise.edwards_key(bytes.fromhex(ROOT)).hex() == (
        "71555709a6ebae382d4f588b137b38e11dbd9bf0c8d37feed95325f20826f557"
    )


def test_the_hash_after_the_header():
    """Before the ephemeral key is mixed in; what follows is that and nothing else."""
    assert len(b"Noise_XX_25519_AESGCM_SHA256") == 28
    after = "ffff0c9267310966f1311170c04b38c79504285bf5edf763e5c946492a50a755"
    assert noise._hash(noise._PATTERN, WEB).hex() == after
    shake = noise.Handshake(WEB, SECRET)
    assert shake.transcript == noise._hash(bytes.fromhex(after), public_of(SECRET))


def test_the_hello_byte_by_byte():
    hello = noise.Handshake(WEB, SECRET).hello()
    assert len(hello) == 43
    assert hello.hex() == "57410603" + "000024" + "1222" + "0a20" + public_of(SECRET).hex()


def test_another_header_is_another_prologue():
    phone = noise.Handshake(bytes.fromhex("57410502"), SECRET)
    assert phone.hello()[:4].hex() == "57410502"
    assert phone.transcript != noise.Handshake(WEB, SECRET).transcript


# The server's hello


@pytest.mark.parametrize("cut", [1, 5, 100, 10_000])
def test_a_server_hello_in_pieces(cut):
    shake = noise.Handshake(WEB, SECRET)
    answer = ChatHost(VAULT.static, CHAIN).said(shake.hello())
    reader, message = noise.Reader(), None
    for at in range(0, len(answer), cut):
        assert message is None
        message = reader.feed(answer[at : at + cut])
    server = shake.read(message)
    assert server.static == public_of(VAULT.static)
    assert server.chain == CHAIN


def test_fields_that_nobody_knows_are_left_alone():
    more = protobuf.field(9, b"post-quantum") + protobuf.field(10, 5)

    def wider(message):
        inner = protobuf.message(message)[3]
        return protobuf.field(3, inner + more) + more

    shake, message = greeted(change=wider)
    assert shake.read(message).chain == CHAIN


def damaged_at(at):
    return lambda message: message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]


def parts(message):
    fields = protobuf.message(protobuf.message(message)[3])
    return [fields[n] for n in (1, 2, 3)]


def built(ephemeral, static, payload):
    inner = b"".join(protobuf.field(n, p) for n, p in enumerate((ephemeral, static, payload), 1))
    return protobuf.field(3, inner)


REFUSALS = {
    "nothing": lambda m: b"",
    "no server hello": lambda m: protobuf.field(2, b"x"),
    "a number for it": lambda m: protobuf.field(3, 7),
    "no ephemeral": lambda m: protobuf.field(3, protobuf.field(2, bytes(48))),
    "a short ephemeral": lambda m: built(parts(m)[0][:-1], *parts(m)[1:]),
    "a short static": lambda m: built(parts(m)[0], parts(m)[1][:-1], parts(m)[2]),
    "no payload": lambda m: built(*parts(m)[:2], b""),
    "a point of low order": lambda m: built(bytes(32), *parts(m)[1:]),
    "another ephemeral": lambda m: built(public_of(bytes(31) + b"\5"), *parts(m)[1:]),
    "a damaged static": lambda m: built(parts(m)[0], bytes(48), parts(m)[2]),
    "a damaged payload": lambda m: built(*parts(m)[:2], parts(m)[2][:-1] + b"\0\0"),
}


@pytest.mark.parametrize("change", REFUSALS.values(), ids=REFUSALS)
def test_a_hello_that_is_none(change):
    shake, message = greeted(change=change)
    with pytest.raises(WireError) as caught:
        shake.read(message)
    assert caught.value.failure is Failure.BAD_REPLY


def test_a_host_that_heard_another_header_does_not_decrypt():
    shake, message = greeted(host_header=WEB)
    other = noise.Handshake(bytes.fromhex("57410502"), SECRET)
    with pytest.raises(WireError, match="does not decrypt"):
        other.read(message)
    assert shake.read(message)


@pytest.mark.parametrize("length", ["ffffff", "004001"])
def test_a_long_frame_is_refused_by_its_length(length):
    with pytest.raises(WireError) as caught:
        noise.Reader().feed(bytes.fromhex(length))
    assert caught.value.failure is Failure.OVERSIZED


# The chain


def verify(vault, root=None, now=None):
    chain = noise.read_chain(vault.chain())
    root = bytes.fromhex(root or vault.root_hex)
    noise.verify(chain, public_of(vault.static), root, time.time() if now is None else now)


def test_a_chain_to_the_root():
    verify(VAULT)
    chain = noise.read_chain(CHAIN)
    assert (chain.leaf.serial, chain.leaf.issuer_serial, chain.intermediate.serial) == (9, 7, 7)
    assert chain.not_before < time.time() < chain.not_after


OTHER = b"\x42" * 32
FORGERIES = {
    "another root": (VAULT.but(root=OTHER), Failure.UNKNOWN_ISSUER),
    "an intermediate by itself": (VAULT.but(signs_intermediate=OTHER), Failure.UNKNOWN_ISSUER),
    "an intermediate of another": (VAULT.but(issuers=(3, 7)), Failure.UNKNOWN_ISSUER),
    "a leaf by another": (VAULT.but(signs_leaf=OTHER), Failure.BAD_CERTIFICATE),
    "a leaf of another intermediate": (VAULT.but(issuers=(0, 8)), Failure.BAD_CERTIFICATE),
    "another host's leaf": (VAULT.but(leaf_key=public_of(OTHER)), Failure.BAD_CERTIFICATE),
    "a leaf that is over": (VAULT.but(leaf_days=(-9, -1)), Failure.EXPIRED),
    "a leaf of tomorrow": (VAULT.but(leaf_days=(1, 9)), Failure.EXPIRED),
    "an intermediate that is over": (VAULT.but(intermediate_days=(-9, -1)), Failure.EXPIRED),
}


@pytest.mark.parametrize(("vault", "failure"), FORGERIES.values(), ids=FORGERIES)
def test_forged_and_expired_chains(vault, failure):
    with pytest.raises(WireError) as caught:
        verify(vault, VAULT.root_hex)
    assert caught.value.failure is failure


def test_dates_are_those_of_both_certificates():
    vault = VAULT.but(leaf_days=(-5, 10), intermediate_days=(-2, 20))
    chain, now = noise.read_chain(vault.chain()), time.time()
    assert chain.not_before == pytest.approx(now - 2 * DAY, abs=5)
    assert chain.not_after == pytest.approx(now + 10 * DAY, abs=5)
    verify(vault, now=now + 9.9 * DAY)
    with pytest.raises(WireError):
        verify(vault, now=now + 10.1 * DAY)


def test_no_end_is_no_end():
    """A certificate without dates is its issuer's affair."""
    details = protobuf.field(1, 9) + protobuf.field(3, public_of(OTHER))
    one = protobuf.field(1, details) + protobuf.field(2, bytes(64))
    chain = noise.read_chain(protobuf.field(1, one) + protobuf.field(2, one))
    assert (chain.not_before, chain.not_after) == (0, 0)
    assert chain.leaf.issuer_serial == 0


# XEdDSA


def varied(number):
    return SECRET[:9] + bytes([number]) + SECRET[10:]


@pytest.mark.parametrize("number", range(12))
def test_signatures_by_x25519_keys(number):
    """Both signs of the key are among these."""
    secret = varied(number)
    signature = xeddsa.sign(secret, b"details")
    assert noise.xeddsa_verifies(public_of(secret), signature, b"details")
    assert not noise.xeddsa_verifies(public_of(secret), signature, b"Details")
    assert not noise.xeddsa_verifies(public_of(OTHER), signature, b"details")
    flipped = signature[:63] + bytes([signature[63] ^ 0x80])
    assert not noise.xeddsa_verifies(public_of(secret), flipped, b"details")


def test_both_signs_were_there():
    signs = {xeddsa.sign(varied(n), b"")[63] >> 7 for n in range(12)}
    assert signs == {0, 1}


def test_the_labs_curve_is_the_real_one():
    """By the library's own: Ed25519 keys are multiples of the same point."""
    key = Ed25519PrivateKey.from_private_bytes(SECRET)
    scalar = xeddsa.clamped(xeddsa.hashlib.sha512(SECRET).digest()[:32])
    assert xeddsa.encode(xeddsa.times(scalar, xeddsa.base())) == (
        key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    )


@pytest.mark.parametrize("u", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 1])
def test_odd_keys_sign_nothing(u):
    """u = -1 has no Edwards form."""
    key = u.to_bytes(32, "little")
    assert not noise.xeddsa_verifies(key, xeddsa.sign(SECRET, b"x"), b"x")


# Whatever comes


MESSAGE = greeted()[1]


@given(st.data())
def test_damaged_hellos(mutated, data):
    changed = data.draw(mutated(MESSAGE))
    try:
        server = noise.Handshake(WEB, SECRET).read(changed)
    except WireError:
        return
    assert server.chain == CHAIN, "what decrypts was not changed where it counts"


@given(st.data())
def test_damaged_chains(mutated, data):
    changed = data.draw(mutated(CHAIN))
    try:
        chain = noise.read_chain(changed)
        noise.verify(chain, public_of(VAULT.static), bytes.fromhex(VAULT.root_hex), time.time())
    except WireError:
        return
    original = noise.read_chain(CHAIN)
    assert chain.leaf.details == original.leaf.details
    assert chain.intermediate.details == original.intermediate.details


@settings(max_examples=50)
@given(st.binary(max_size=600))
def test_any_bytes(data):
    for read in (noise.read_chain, noise.Handshake(WEB, SECRET).read, noise.Reader().feed):
        try:
            read(data)
        except WireError:
            continue
