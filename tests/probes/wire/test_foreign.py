import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.wire.foreign import spoken

HELLO = bytes.fromhex("57410603000024") + bytes(36)


@pytest.mark.parametrize(
    ("heard", "word"),
    [
        (HELLO, "echo"),
        (HELLO[:4], "echo"),
        (HELLO + b"and more", "echo"),
        (HELLO[:3], ""),
        (b"HTTP/1.1 400 Bad Request\r\n", "http"),
        (b"<html>", "http"),
        (b"HTTQ/", ""),
        (bytes.fromhex("15030300020228"), "tls"),
        (bytes.fromhex("160301"), "tls"),
        (bytes.fromhex("1503"), ""),
        (bytes.fromhex("15000000000000000001"), ""),  # resPQ in an abridged frame
        (b"", ""),
        (bytes(20), ""),
    ],
)
def test_what_else_it_is(heard, word):
    assert spoken(heard, HELLO) == word


@given(st.binary(), st.binary())
def test_any_bytes_have_a_word(heard, said):
    assert spoken(heard, said) in ("", "echo", "http", "tls")
