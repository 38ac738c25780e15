import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.model import Failure
from probes.wire import protobuf
from probes.wire.error import WireError


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        ("", {}),
        ("089601", {1: 150}),  # the encoding guide's own example
        ("120774657374696e67", {2: b"testing"}),  # and its second
        ("0a00", {1: b""}),
        ("08010802", {1: 2}),  # the last one counts
        ("0d01000000", {1: 1}),
        ("090100000000000000", {1: 1}),
        ("08ffffffffffffffffff01", {1: 2**64 - 1}),
    ],
)
def test_reads(data, fields):
    assert protobuf.message(bytes.fromhex(data)) == fields


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        ("08", Failure.TRUNCATED),
        ("0880", Failure.TRUNCATED),
        ("0a05616263", Failure.TRUNCATED),
        ("0affffffffffffffffff01", Failure.TRUNCATED),
        ("0d010000", Failure.TRUNCATED),
        ("0001", Failure.BAD_REPLY),
        ("0b", Failure.BAD_REPLY),
        ("08ffffffffffffffffff02", Failure.BAD_REPLY),
        ("08ffffffffffffffffffff01", Failure.BAD_REPLY),
        ("0801" * 65, Failure.BAD_REPLY),
    ],
)
def test_refuses(data, failure):
    with pytest.raises(WireError) as caught:
        protobuf.message(bytes.fromhex(data))
    assert caught.value.failure is failure


def test_what_must_be_there():
    fields = {1: b"abc", 2: 7}
    assert protobuf.blob(fields, 1) == protobuf.blob(fields, 1, 3) == b"abc"
    assert protobuf.integer(fields, 2) == 7
    assert protobuf.integer(fields, 3) == 0
    for wrong in (
        lambda: protobuf.blob(fields, 2),
        lambda: protobuf.blob(fields, 3),
        lambda: protobuf.blob(fields, 1, 4),
        lambda: protobuf.integer(fields, 1),
    ):
        with pytest.raises(WireError) as caught:
            wrong()
        assert caught.value.failure is Failure.BAD_REPLY


@given(st.dictionaries(st.integers(1, 2**20), st.integers(0, 2**64 - 1) | st.binary(), max_size=9))
def test_what_is_written_is_read(fields):
    data = b"".join(protobuf.field(number, value) for number, value in fields.items())
    assert protobuf.message(data) == fields


@given(st.binary(max_size=400))
def test_any_bytes(data):
    try:
        fields = protobuf.message(data)
    except WireError:
        return
    assert all(isinstance(value, int | bytes) for value in fields.values())
