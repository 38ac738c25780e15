"""``python -m bench [NAME...]``: prints the figures that README and docs claim. Most need root:
they run inside network namespaces of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

from bench import accuracy, cost, diagnosing, footprint, greetings, history, profile, scale, streams

BENCHES = {
    "footprint": footprint.main,
    "cost": cost.main,
    "scale": scale.main,
    "profile": profile.main,
    "diagnosing": diagnosing.main,
    "greetings": greetings.main,
    "streams": streams.main,
    "accuracy": accuracy.main,
    "history": history.main,
}


def main() -> None:
    names = sys.argv[1:] or list(BENCHES)
    if len(names) > 1:  # each in a process of its own: some leave for a namespace and do not return
        for name in names:
            subprocess.run([sys.executable, "-m", "bench", name], check=True)
        return
    print(f"Python {platform.python_version()}, {platform.machine()}, {platform.release()}")
    BENCHES[names[0]]()


main()
