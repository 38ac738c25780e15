"""``make demo``: the agent and its page inside the lab, reachable from the host's browser.

One port of the host's loopback is relayed into the client's namespace, nothing else is. Words on
standard input play the scenarios; ``help`` lists them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

if not __package__:  # started by path instead of with -m
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.lab.lab import PROGRAMS, Lab
from tests.lab.path import Loss
from tests.lab.world import Missing, World, require

HOST, PORT = "127.0.0.1", 22550
CHUNK = 65536
INTERVAL = 10.0  # seconds between rounds: a demonstration should not take a quarter of an hour

HELP = """\
  drop telegram | drop whatsapp   drop UDP to that messenger's call relays
  lose telegram | lose whatsapp   lose 70 % of it
  cut                             cut the whole line
  lift                            undo all of these
  quit                            end"""


def obey(lab: Lab, line: str) -> str:
    """Carry out one line of input and say what was done."""
    match line.split():
        case []:
            return ""
        case ["drop", messenger] if lab.catalogue.select(messenger=messenger, channel="call"):
            lab.world.rules.add("drop", **lab.call_relays(messenger))
            return f"UDP to {messenger}'s call relays is dropped"
        case ["lose", messenger] if lab.catalogue.select(messenger=messenger, channel="call"):
            relays = lab.call_relays(messenger)
            lab.world.rules.add("loss", direction="out", loss=Loss(0.7), **relays)
            return f"70 % of the packets to {messenger}'s call relays are lost"
        case ["cut"]:
            lab.world.rules.cut()
            return "the line is cut"
        case ["lift"]:
            lab.world.rules.clear()
            return "everything passes"
        case _:
            return HELP


async def start_relay(world: World, port: int) -> asyncio.Server:
    """Listen on the host's loopback, and join each connection to one made in the namespace."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _join(world, port, reader, writer)

    return await asyncio.start_server(serve, HOST, port)


async def _join(
    world: World, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.closing(writer), contextlib.suppress(OSError):
        inside = await asyncio.to_thread(world.call, socket.create_connection, (HOST, port))
        inner_reader, inner_writer = await asyncio.open_connection(sock=inside)
        with contextlib.closing(inner_writer):
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def play(lab: Lab, agent: Popen[Any], port: int, say: Callable[[str], None]) -> None:
    """Until ``quit``, Ctrl-C or the agent's end."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)

    def read_input() -> None:
        data = os.read(sys.stdin.fileno(), CHUNK)
        if not data:
            loop.remove_reader(sys.stdin)
        for line in data.decode(errors="replace").splitlines():
            if line.strip() == "quit":
                ended.set()
            elif answer := obey(lab, line):
                say(answer)

    with contextlib.suppress(PermissionError):  # epoll refuses files and /dev/null: no commands
        loop.add_reader(sys.stdin, read_input)
    server = await start_relay(lab.world, port)
    say(f"http://{HOST}:{port}/\n{HELP}")
    while not ended.is_set() and agent.poll() is None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), 0.5)
    server.close()  # without waiting: a browser keeps its connections open
    if agent.poll() is not None:
        say(f"the agent ended with {agent.returncode}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help="the port on the host's loopback")
    parser.add_argument("--interval", type=float, default=INTERVAL, help="seconds between rounds")
    options = parser.parse_args()
    try:
        require(*PROGRAMS)
    except Missing as missing:
        print(f"the demonstration needs {missing}", file=sys.stderr)
        return 1
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="callpath-demo-") as directory:
        web = {"listen": f"{HOST}:{options.port}"}
        file = lab.configuration(Path(directory), options.interval, web=web)
        agent = lab.agent(["run", "--yes", "--config", file], stdin=DEVNULL)
        asyncio.run(play(lab, agent, options.port, lambda text: print(text, flush=True)))
        return lab.world.stop(agent)


if __name__ == "__main__":
    sys.exit(main())
