import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.wire.text import clean


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("telegram.org", "telegram.org"),
        ("Привет, 世界 é", "Привет, 世界 é"),
        (b"None\0\0", "None"),
        (b"\xff\xfe ok", "\ufffd\ufffd ok"),
        ("  a \t b\r\n\n c  ", "a b c"),
        ("a\u2028b\u2029c\x85d\xa0e", "a b c d e"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[1;31;38:5:1mred", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9d0;title\x9cafter", "after"),
        ("\x1bPq#0~\x1b\\after", "after"),
        ("\x1b(Bafter", "after"),
        ("\x1b7\x1bcafter", "after"),
        ("a\x1b", "a"),
        ("a\x1b[", "a"),
        ("a\x1b[12;", "a"),
        ("a\x1b]never ends", "a"),
        ("a\x1b]ends\nwith the line", "a with the line"),
        ("\x1b\x1b[31mred", "red"),
        ("\x1b[\x1b[31m31mred", "31mred"),
        ("evil\u202egpj.exe\u2066x\u2069", "evilgpj.exex"),
        ("zero\u200bwidth\u200d\ufeff\u2060\u00ad", "zerowidth"),
        ("fill\u3164er\u115f\u2800\ufe0f\u034f\U000e0101", "filler"),
        ("tag\U000e0041s", "tags"),
        ("sur\ud800rogate", "surrogate"),
        ("private\ue000 \U000f0000use", "private use"),
        ("un\u0378assigned\uffff", "unassigned"),
        ("<script>alert('&')</script>", "<script>alert('&')</script>"),
        ("", ""),
    ],
)
def test_cleans(raw, expected):
    assert clean(raw) == expected


def test_marks_a_cut_inside_the_limit():
    assert clean("x" * 120) == "x" * 120
    assert clean("x" * 121) == "x" * 119 + "…"
    assert clean("abc def", 5) == "abc…"
    assert clean("abcdef", 1) == "…"


ESCAPES = st.lists(
    st.sampled_from(
        ("\x1b", "[", "]", "\x9b", "\x9c", "\\", "\x07", "31", "m", ";", " ", "a", "\n")
    )
    | st.characters()
).map("".join)


@given(ESCAPES | st.binary(max_size=300), st.integers(1, 50))
def test_is_printable_bounded_and_idempotent(raw, limit):
    text = clean(raw, limit)
    assert len(text) <= limit
    assert text == " ".join(text.split())
    assert all(char == " " or unicodedata.category(char)[0] not in "CZ" for char in text)
    assert clean(text, limit) == text


@pytest.mark.parametrize(
    "unit", ["\x1b[", "\x1b]", "\x1b[1;", "\x1b ", "\x1b]x\x1b", "\x1b[ ", " ", "1"]
)
def test_time_grows_with_the_length_only(unit):
    """Backtracking would need a thousand times as long for 32 times the bytes."""

    def seconds(size):
        text = "\x1b[" + unit * (size // len(unit)) + "\x1b[" + "1" * size
        runs = []
        for _ in range(5):
            begin = time.perf_counter()
            clean(text)
            runs.append(time.perf_counter() - begin)
        return min(runs)

    assert seconds(65536) < 200 * seconds(2048)
