"""Does a web server answer over a valid chain, or in the clear where the URL says http?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from probes.model import Failure, Step
from probes.net import http, stream, tls
from probes.net.errors import Refusal
from probes.trail import Peer, Trail

EXCHANGE_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class HttpsProbe:
    """One request; no redirect is followed. Any status will do while ``expect_status`` is empty.

    ``authority``: as for tls.
    """

    kind: ClassVar[str] = "https"
    takes: ClassVar[str] = "url"
    packets_per_run: ClassVar[int] = 1

    url: str
    method: Literal["GET", "HEAD", "POST"] = "GET"
    expect_status: tuple[int, ...] = ()
    expect_body: str = ""
    authority: str = ""

    @property
    def handshake(self) -> bool:
        return self.url.startswith("https:")

    @property
    def bytes_per_run(self) -> int:
        return 7000 if self.handshake else 1100

    def subject(self, host: str) -> str:
        return host.lower()

    async def run(self, trail: Trail, peer: Peer) -> None:
        async with stream.connect(trail, peer) as tcp:
            if trail.partial:
                return
            bytes_over: http.ByteStream = tcp
            if self.handshake:
                name = peer.host or peer.address
                bytes_over = await tls.secure(
                    trail, tcp, peer.address, name, ("http/1.1",), authority=self.authority
                )
            async with trail.step(Step.EXCHANGE, trail.limit(EXCHANGE_LIMIT)):
                answer = await http.exchange(bytes_over, self.method, self.url)
                trail.facts["http_status"] = answer.status
                if answer.server:
                    trail.facts["http_server"] = answer.server
                if answer.location:
                    trail.facts["http_location"] = answer.location
                if answer.clock_offset is not None:
                    trail.facts["clock_offset_seconds"] = round(answer.clock_offset, 3)
                if self.expect_status and answer.status not in self.expect_status:
                    raise Refusal(Failure.HTTP_STATUS, f"status {answer.status}")
                if self.expect_body and self.expect_body.encode() not in answer.body:
                    raise Refusal(Failure.BAD_REPLY, "the expected text is not in the body")


PROBE = HttpsProbe
