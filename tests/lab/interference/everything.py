"""Interference, as scenarios: names, addresses, TLS, HTTP, flows and datagrams."""

from __future__ import annotations

from tests.lab.interference import addresses, datagrams, flows, greetings, names, together, words

ALL = (
    *(*addresses.ALL, *names.ALL, *greetings.ALL, *flows.ALL, *together.ALL),
    *(*words.ALL, *datagrams.ALL),
)
