"""One small document from an operator's own server, over the same sockets as everything else."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from probes.model import Failure, Family, Step, Target
from probes.net import http, resolver, stream, tls
from probes.net.address import is_askable, parse
from probes.net.environment import Environment
from probes.net.errors import Refusal
from probes.trail import Peer, StepFailed, Trail
from probes.wire.error import WireError

STEP_LIMIT = 10.0


async def fetch(env: Environment, url: str, of: Target, *, limit: int, seconds: float) -> bytes:
    """The body behind ``url``, of at most ``limit`` bytes and within ``seconds`` in all.

    https is verified as any other; no redirect is followed; anything but 200 is ``http_status``.
    Raises what ``probes.trail.NETWORK_ERRORS`` holds, and NotMeasured where manners forbid it.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    async with asyncio.timeout(seconds):
        last: BaseException = Refusal(Failure.NO_ADDRESS, "no address to ask")
        for address in await _addresses(env, host):
            trail = Trail(env, STEP_LIMIT)
            await env.courtesy.check(of, address, port, of.probe, 1)
            try:
                return await _get(trail, Peer(address, port, host), url, limit)
            except StepFailed as error:
                last = error.__cause__ or error
        raise last


async def _addresses(env: Environment, host: str) -> list[str]:
    if parse(host) is not None:
        return [host]
    resolution = await resolver.lookup(env, host, Family.ANY)
    if resolution.step.failure:
        raise Refusal(resolution.step.failure, resolution.step.detail)
    return [address for address in resolution.addresses if is_askable(address)]


async def _get(trail: Trail, peer: Peer, url: str, limit: int) -> bytes:
    async with stream.connect(trail, peer) as tcp:
        over: http.ByteStream = tcp
        if url.startswith("https:"):
            over = await tls.secure(trail, tcp, peer.address, peer.host, ("http/1.1",))
        async with trail.step(Step.EXCHANGE, STEP_LIMIT):
            answer = await http.exchange(over, "GET", url, limit=limit + 1)
            if answer.status != 200:
                raise Refusal(Failure.HTTP_STATUS, f"status {answer.status}")
            if len(answer.body) > limit:
                raise WireError(Failure.OVERSIZED, f"more than {limit} bytes")
    return answer.body
