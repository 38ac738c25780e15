"""The one exception that codecs raise about bytes from the network."""

from __future__ import annotations

from probes.model import Failure


class WireError(Exception):
    """The peer's bytes are not what the protocol allows. ``failure`` is the word for it."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure
