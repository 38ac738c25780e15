"""As much of the protocol buffers' encoding as the hellos of a Noise server need.

https://protobuf.dev/programming-guides/encoding/, read 2026-11-20.
"""

from __future__ import annotations

from collections.abc import Mapping

from probes.model import Failure
from probes.wire.error import WireError

Value = int | bytes

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 64
"""Of one message: no hello has a tenth of that."""


def message(data: bytes) -> Mapping[int, Value]:
    """Field number to value, the last one where a field is repeated. Fields that nobody knows are
    values like the others. Raises WireError."""
    found: dict[int, Value] = {}
    at = 0
    for _ in range(_MOST_FIELDS):
        if at >= len(data):
            return found
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise WireError(Failure.BAD_REPLY, "a protobuf field without a number")
        found[number], at = _value(data, at, kind)
    if at < len(data):
        raise WireError(Failure.BAD_REPLY, f"more than {_MOST_FIELDS} protobuf fields")
    return found


def blob(fields: Mapping[int, Value], number: int, size: int | None = None) -> bytes:
    """The bytes of a field that must be there, of ``size`` where that is known."""
    value = fields.get(number)
    if not isinstance(value, bytes):
        raise WireError(Failure.BAD_REPLY, f"no bytes in protobuf field {number}")
    if size is not None and len(value) != size:
        raise WireError(
            Failure.BAD_REPLY, f"protobuf field {number} has {len(value)} bytes and not {size}"
        )
    return value


def integer(fields: Mapping[int, Value], number: int) -> int:
    """An unsigned number; 0 where it is left out, which is how a zero may be written."""
    value = fields.get(number, 0)
    if not isinstance(value, int):
        raise WireError(Failure.BAD_REPLY, f"no number in protobuf field {number}")
    return value


def field(number: int, value: Value) -> bytes:
    """One field, written."""
    if isinstance(value, bytes):
        return _number(number << 3 | _BYTES) + _number(len(value)) + value
    return _number(number << 3 | _VARINT) + _number(value)


def _value(data: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind == _VARINT:
        return _varint(data, at)
    if kind == _BYTES:
        size, at = _varint(data, at)
    elif kind in (_FIXED32, _FIXED64):
        size = 4 if kind == _FIXED32 else 8
    else:
        raise WireError(Failure.BAD_REPLY, f"protobuf has no wire type {kind} any more")
    if size > len(data) - at:
        raise WireError(Failure.TRUNCATED, "a protobuf field is longer than its message")
    value = data[at : at + size]
    return value if kind == _BYTES else int.from_bytes(value, "little"), at + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise WireError(Failure.TRUNCATED, "a protobuf number is cut off")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            if value >= 1 << 64:
                break
            return value, at
    raise WireError(Failure.BAD_REPLY, "a protobuf number of more than 64 bits")


def _number(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*written, value))
