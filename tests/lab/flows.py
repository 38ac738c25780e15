"""Streams played by one task each, for the laboratory's slow paces: no process of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from probes.net.address import Source
from probes.net.streams import Played, Received, Stream, Watch
from probes.net.udp import open_flow


@dataclass(frozen=True, slots=True)
class FlowStreams:
    """Implements probes.net.streams.Streams, but for flows that stay open."""

    async def play(
        self, streams: Sequence[Stream], source: Source, watch: Watch | None = None
    ) -> list[Played]:
        start = time.monotonic() + 0.05
        return list(await asyncio.gather(*(_play(stream, source, start) for stream in streams)))


async def _play(stream: Stream, source: Source, start: float) -> Played:
    sent, late = [], []
    with open_flow(stream.address, stream.port, source) as flow:
        for send in stream.sends:
            await asyncio.sleep(start + send.at - time.monotonic())
            late.append(max(0.0, time.monotonic() - start - send.at))
            sent.append(flow.send(send.data))
        await asyncio.sleep(start + stream.lasts - time.monotonic())
        received = tuple(Received(it.at, it.data) for it in flow.datagrams)
        overflowed = flow.received - len(flow.datagrams)
        return Played(tuple(sent), tuple(late), received, tuple(flow.errors), overflowed)
