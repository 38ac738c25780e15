"""The tracer's own process: an order in, a stretch out, and no router."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from dataclasses import asdict

import pytest

from agent import tracedoor, tracer
from agent.tracedoor import Order
from probes.trace.common import Report, Word
from probes.trace.place import Place, Placement, Run, Stretch

ORDER = {**asdict(Order("tcp", "203.0.113.9", 443))}


def report(low: int, high: int | None, *routers: str, distance: int | None = None) -> Report:
    found = Stretch(low, high)
    place = Place(found, Placement.IN_PATH, 4, 5, 5, 5, 1, routers)
    runs = [Run(1, {}, distance, True)]
    return Report(Word.FOUND, "B", frozenset(), place, runs, 100, 12.34)


def test_a_result_has_no_router_in_it(tmp_path):
    file = tmp_path / "asn"
    file.write_text("198.51.100.0/24 64500 One\n198.51.100.2/32 64501 Two\n203.0.113.0/24 64502\n")
    order = {**ORDER, "asn_file": str(file)}
    made = report(1, 2, "198.51.100.1", "198.51.100.2", distance=3)
    told = tracer.result(made, order)
    assert "198.51.100" not in json.dumps(told)
    assert told["networks"] == ["AS64500 One", "AS64501 Two"]
    assert (told["low"], told["high"], told["agree"], told["runs"]) == (1, 2, 4, 5)
    at_the_server = tracer.result(report(2, 3, "198.51.100.1", "", distance=3), order)
    assert at_the_server["networks"] == ["", "AS64502"]
    assert tracer.result(made, ORDER)["networks"] == ["", ""]
    assert tracer.result(made, {**order, "asn_file": str(tmp_path / "gone")})["networks"][0] == ""


def test_a_result_is_what_the_agent_reads():
    for made in (report(0, 1), report(3, None), Report(Word.NOTHING, "A")):
        told = {**tracer.result(made, ORDER), **tracer._spent(100, 40)}
        assert tracedoor.traced(told).method == made.method


async def test_an_order_is_carried_out_by_a_process():
    """At this host: nothing is on the way there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        spent: list[tuple[int, int]] = []
        order = Order("tcp", *server.getsockname())
        told = await tracedoor.trace(order, lambda sent, received: spent.append((sent, received)))
    assert told is not None
    assert (told.word, told.low, told.high) == ("no_interference", None, None)
    assert sum(sent for sent, _ in spent) == told.packets * tracer._HEADERS > 0


async def test_what_is_said_before_the_end_is_how_much_was_sent(monkeypatch, capsys):
    async def slowly(self: tracer.Walk) -> Report:
        for _ in range(3):
            self.packets += 10
            await asyncio.sleep(0.03)
        return Report(Word.NOTHING, "B", packets=self.packets)

    monkeypatch.setattr(tracer, "BEAT", 0.01)
    monkeypatch.setattr(tracer.Walk, "trace", slowly)
    told = await tracer.carry_out(ORDER)
    said = [json.loads(line)["packets"] for line in capsys.readouterr().out.splitlines()]
    assert said == sorted(set(said))
    assert said[0] == 10
    assert told["packets"] == 30


async def test_it_does_not_begin_without_its_parent():
    command = [sys.executable, "-m", "agent.tracer", str(os.getpid() + 1)]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 1


@pytest.mark.parametrize("wrong", [{"kind": "smoke"}, {"source": 1}])
async def test_what_is_no_order_is_refused(wrong):
    with pytest.raises((ValueError, TypeError, KeyError)):
        await tracer.carry_out({**ORDER, **wrong})
