"""Text from the network, made fit for logs, terminals, pages and JSON."""

from __future__ import annotations

import re

# ECMA-48 sections 5.3 to 5.6. Each alternative takes what it finds and never backtracks, so the
# time is linear; a sequence that is cut off is taken to where it ends.
_ESCAPE_SEQUENCE = re.compile(
    r"""(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?                    # CSI: colours, cursor movement
    |   (?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x00-\x1f\x7f-\x9f]*
                                                             # OSC, DCS, SOS, PM, APC: a text up to
                                                             # BEL or ST, which go as controls do
    |   \x1b[ -/]*[0-~]?                                     # the two-character ones
    """,
    re.VERBOSE,
)

# Shown as nothing although Unicode counts them as letters, marks or symbols
# (Default_Ignorable_Code_Point in DerivedCoreProperties.txt, and the empty braille pattern).
_INVISIBLE = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2800, 0x2800),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)


def clean(text: str | bytes, limit: int = 120) -> str:
    """One printable line of at most ``limit`` characters; a cut is marked by "…" inside it.

    Drops escape sequences, control, bidi, zero-width, private and unassigned characters and
    surrogates; line ends become spaces, runs of white space one space. Bytes are read as UTF-8.
    Markup stays as it is: the page escapes it. Cleaning twice changes nothing.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if text.isascii() and text.isprintable() and "  " not in text and len(text) <= limit:
        return text.strip(" ")  # nearly every text; the rest costs ten times as much
    text = _ESCAPE_SEQUENCE.sub("", text)
    # isprintable() is false for the whole of Unicode's categories C and Z but for the space.
    text = "".join(
        char for char in text if char.isspace() or (char.isprintable() and char not in _INVISIBLE)
    )
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
