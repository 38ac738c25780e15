"""What of the history has had its time, as statements for the store. Pure.

Little at a time, with every round: a long delete would hold up the rounds that wait to be saved.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.store import Work

WHOLE_FOR = 48 * 3600.0
"""Seconds for which what is no evidence of anything is kept whole."""
SOME = 64
"""Rows that go at once, at most."""
SELDOM = 16
_USED = (
    "((SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM"
    " pragma_freelist_count)) * (SELECT page_size FROM pragma_page_size)"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """``keep``: seconds. ``max_size``: bytes of the whole store, its log beside."""

    keep: float
    max_size: int


def trimming(limits: Limits, now: float, turn: int) -> list[Work]:
    """``now``: Unix seconds, of a clock that is believed; ``turn`` counts up."""
    whole, kept = now - WHOLE_FOR, now - limits.keep
    aged = f"SELECT id FROM rounds WHERE kept = 0 AND judged IS NOT NULL AND at < ? LIMIT {SOME}"
    old = f"SELECT id FROM rounds WHERE at < ? LIMIT {SOME}"
    made: list[Work] = [
        (
            "DELETE FROM rounds WHERE kept = 0 AND judged IS NOT NULL AND failed IS NULL"
            f" AND id IN ({aged})",
            [(whole,)],
        ),
        (f"UPDATE rounds SET judged = NULL, worked = NULL WHERE id IN ({aged})", [(whole,)]),
        (f"DELETE FROM rounds WHERE id IN ({old})", [(kept,)]),
        *_too_large(limits.max_size),
    ]
    if turn % SELDOM == 0:
        newest = "SELECT max(id) FROM changes WHERE at < ? GROUP BY messenger, channel"
        made += [
            (f"DELETE FROM changes WHERE at < ? AND id NOT IN ({newest})", [(kept, kept)]),
            ("DELETE FROM spans WHERE until < ?", [(kept,)]),
        ]
    # A target at a time: what is before its oldest slot is not looked through.
    some = "? % max(1, (SELECT count(*) FROM targets))"
    its = f"SELECT id FROM targets ORDER BY id LIMIT 1 OFFSET {some}"
    made.append((f"DELETE FROM slots WHERE target = ({its}) AND at < ?", [(turn, kept)]))
    return made


def _too_large(most: int) -> list[Work]:
    """The oldest go first, and what changed goes last."""
    order = (
        ("rounds", "id", ""),
        ("slots", "at", "NOT EXISTS (SELECT 1 FROM rounds)"),
        ("changes", "id", "NOT EXISTS (SELECT 1 FROM slots) AND NOT EXISTS (SELECT 1 FROM rounds)"),
    )
    made: list[Work] = []
    for table, by, after in order:
        if table == "slots":
            oldest = "at <= (SELECT min(at) FROM slots) + 86400"
        else:
            oldest = f"{by} IN (SELECT {by} FROM {table} ORDER BY {by} LIMIT {SOME})"
        also = f" AND {after}" if after else ""
        made.append((f"DELETE FROM {table} WHERE {_USED} > ?{also} AND {oldest}", [(most,)]))
    return made
