"""What the socket layer raises beside OSError and EOFError."""

from __future__ import annotations

import errno

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


_BY_ERRNO = {
    errno.ECONNREFUSED: Failure.REFUSED,
    errno.ECONNRESET: Failure.RESET,
    errno.EPIPE: Failure.CLOSED,  # written after a FIN; after an RST the first word is ECONNRESET
    errno.ECONNABORTED: Failure.RESET,
    errno.ETIMEDOUT: Failure.TIMEOUT,
    errno.EHOSTUNREACH: Failure.UNREACHABLE,
    errno.ENETUNREACH: Failure.UNREACHABLE,
    errno.ENETDOWN: Failure.UNREACHABLE,
    errno.EADDRNOTAVAIL: Failure.UNREACHABLE,
    errno.EINVAL: Failure.UNREACHABLE,  # no route for this scope (a link-local address, say)
    errno.EPERM: Failure.BLOCKED_LOCALLY,  # the host's own firewall
    errno.EACCES: Failure.BLOCKED_LOCALLY,
}


def of_errno(number: int | None) -> Failure:
    """The word for what the host's network stack says; ``other`` for what has none."""
    return _BY_ERRNO.get(number or 0, Failure.OTHER)
