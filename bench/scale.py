"""100, 1,000 and 10,000 checks a minute, half TCP, half STUN, on loopback, scraped every 15 s.

CPU is the main and the web process together, as a share of one core; memory is the peak of both.
The round-trip times are the kernel's, of every target's last run.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from pathlib import Path

from bench import cost, loopback
from bench.loopback import Load
from bench.process import children, cpu, page, peak, runs

KINDS = ("tcp", "stun")
LOADS = (100, 1_000, 10_000)
INTERVAL = 60.0
LENGTHENED = 1.1
"""A round comes after the interval and up to a fifth of it more."""
SECONDS = 120.0


def main() -> None:
    loopback.alone()
    with tempfile.TemporaryDirectory() as folder, loopback.servers(Path(folder)):
        idle = _measure(Path(folder), 0)
        print(f"idle, no target but the controls: {idle}", flush=True)
        for a_minute in LOADS:
            print(f"{a_minute} checks a minute: {_measure(Path(folder), a_minute)}", flush=True)


def _measure(folder: Path, a_minute: int) -> str:
    load = Load(KINDS, max(2, round(a_minute * LENGTHENED)), INTERVAL)
    with cost.running_agent(folder, load) as (pid, _):
        web = int(children(pid)[0])
        time.sleep(INTERVAL / 2)  # the first rounds, in which everything is new, are over
        before, lag = (cpu(pid), cpu(web)), _buckets(page())
        ran, began = runs(), time.monotonic()
        while (left := SECONDS - (time.monotonic() - began)) > 0:
            time.sleep(min(cost.SCRAPE, left))  # as Prometheus waits
            shown = page()
        elapsed = time.monotonic() - began
        shares = [(cpu(p) - b) / elapsed for p, b in zip((pid, web), before, strict=True)]
        ran = (runs() - ran) * 60 / elapsed
        memory = [peak(p) for p in (pid, web)]
        late = {bound: count - lag[bound] for bound, count in _buckets(shown).items()}
    return (
        f"{ran:.0f} ran a minute, {100 * sum(shares):.1f} % of a core"
        f" (main {100 * shares[0]:.1f}, web {100 * shares[1]:.1f}),"
        f" {sum(memory):.0f} MiB (main {memory[0]:.0f}, web {memory[1]:.0f}),"
        f" schedule lag p99 at most {_quantile(late, 0.99)} s,"
        f" RTT p95 {1e6 * _percentile(shown, 95):.0f} us, page {len(shown) / 2**20:.2f} MiB"
    )


def _buckets(shown: str) -> dict[str, float]:
    found = re.findall(r'^callpath_schedule_lag_seconds_bucket\{le="(\S+)"\} (\S+)$', shown, re.M)
    return {bound: float(count) for bound, count in found}


def _quantile(cumulative: dict[str, float], share: float) -> str:
    """The bucket's upper bound within which that share of the rounds started."""
    total = cumulative["+Inf"]
    return next(bound for bound, count in cumulative.items() if count >= share * total)


def _percentile(shown: str, percent: int) -> float:
    """Of the STUN targets' round-trip times, seconds."""
    lines = re.findall(r'^callpath_rtt_seconds\{.*probe="stun".*\} (\S+)$', shown, re.M)
    return statistics.quantiles([float(v) for v in lines], n=100)[percent - 1]
