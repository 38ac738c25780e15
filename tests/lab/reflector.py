"""Returns every datagram to where it came from; on the address and port that are given, and says on
which port. It stands for another machine: what this one is busy with must not delay it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys


def main() -> None:
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((sys.argv[1], int(sys.argv[2])))
        print(sock.getsockname()[1], flush=True)
        buffer = bytearray(2048)
        while True:
            size, peer = sock.recvfrom_into(buffer)
            sock.sendto(memoryview(buffer)[:size], peer)


if __name__ == "__main__":
    main()
