"""The header of a voice's packets, against RFC 3550's picture of it."""

from __future__ import annotations

from probes.wire import rtp


def test_a_packet_as_the_rfc_draws_it() -> None:
    made = rtp.packet(0x1234, 0x01020304, 0xA1B2C3D4, b"voice", first=False)
    assert made.hex() == "806f123401020304a1b2c3d4" + b"voice".hex()


def test_the_first_of_a_talk_is_marked() -> None:
    assert rtp.packet(1, 2, 3, b"", first=True)[1] == 0x80 | 111


def test_numbers_wrap_around() -> None:
    made = rtp.packet(0x1_0001, 0x1_0000_0002, 0x1_0000_0003, b"", first=False)
    assert made == rtp.packet(1, 2, 3, b"", first=False)
    assert len(made) == rtp.HEADER
