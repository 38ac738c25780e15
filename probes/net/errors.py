"""What the socket layer raises beside OSError and EOFError."""

from __future__ import annotations

from probes.model import Failure


class Refusal(Exception):
    """The network said no in a way that errno does not tell (an ICMP filter code, loss)."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


class NotMeasured(Exception):
    """Manners or budget forbid this run now: no observation. ``reason`` is a closed label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
