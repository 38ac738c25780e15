"""The store's tables, version by version."""

from __future__ import annotations

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS trust (
    network TEXT, messenger TEXT, target TEXT, dress TEXT,
    runs INTEGER, answered INTEGER, earned INTEGER, last_verified REAL, silent_since REAL,
    PRIMARY KEY (network, messenger, target, dress));
CREATE TABLE IF NOT EXISTS states (
    network TEXT, messenger TEXT, channel TEXT, value TEXT NOT NULL,
    PRIMARY KEY (network, messenger, channel));
CREATE TABLE IF NOT EXISTS rtt (
    network TEXT, address TEXT, seconds REAL NOT NULL, PRIMARY KEY (network, address));
CREATE TABLE IF NOT EXISTS vouched (
    network TEXT, messenger TEXT, target TEXT, address TEXT, at REAL NOT NULL,
    PRIMARY KEY (network, messenger, target, address));
""",
    # The history. ``kept``: whole for as long as history.keep says. Packed (exporters/record.py)
    # are what was ``judged``, what ``failed`` and ``worked`` in the round, and what it rests on
    # ``also``; those that are gone were stripped with age.
    """
CREATE TABLE rounds (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, messenger TEXT NOT NULL, kept INTEGER NOT NULL,
    anchor INTEGER NOT NULL, judged BLOB, failed BLOB, worked BLOB, also BLOB);
CREATE INDEX rounds_of ON rounds (messenger, id);
CREATE INDEX rounds_whole ON rounds (at) WHERE kept = 0 AND judged IS NOT NULL;
CREATE INDEX rounds_at ON rounds (at);
CREATE TABLE changes (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, messenger TEXT NOT NULL, channel TEXT NOT NULL,
    status TEXT NOT NULL, mechanism TEXT NOT NULL, certainty TEXT NOT NULL,
    intermittent INTEGER NOT NULL, why TEXT NOT NULL, since REAL, confidence REAL NOT NULL,
    rule TEXT NOT NULL, variant TEXT NOT NULL, summary TEXT NOT NULL, evidence INTEGER NOT NULL);
CREATE INDEX changes_of ON changes (messenger, channel, id);
CREATE TABLE spans (
    id INTEGER PRIMARY KEY, since REAL NOT NULL, until REAL NOT NULL, interval REAL NOT NULL);
CREATE TABLE targets (
    id INTEGER PRIMARY KEY, messenger TEXT NOT NULL, channel TEXT NOT NULL, name TEXT NOT NULL,
    probe TEXT NOT NULL, UNIQUE (messenger, channel, name, probe));
CREATE TABLE slots (
    target INTEGER, at INTEGER, runs INTEGER NOT NULL, working INTEGER NOT NULL,
    rtt_min REAL, rtt_median REAL, rtt_p95 REAL, sent INTEGER NOT NULL, received INTEGER NOT NULL,
    loss REAL, late REAL, jitter REAL, mos REAL, control_loss REAL, control_mos REAL,
    PRIMARY KEY (target, at)) WITHOUT ROWID;
""",
)
"""From each version of the store to the next; the first makes one out of nothing."""
VERSION = len(MIGRATIONS)
