"""``python -m bench [NAME...]``: prints the figures that README and docs claim. All but
``diagnosing`` need root: they run inside the simulated internet."""

from __future__ import annotations

import platform
import sys

from bench import diagnosing, footprint

BENCHES = {"footprint": footprint.main, "diagnosing": diagnosing.main}


def main() -> None:
    names = sys.argv[1:] or list(BENCHES)
    print(f"Python {platform.python_version()}, {platform.machine()}, {platform.release()}")
    for name in names:
        BENCHES[name]()


main()
