"""What was learned on this network: which targets answer strangers, which network it is, how near
addresses are, and which of them are their owners'. Kept in the store; the agent and ``callpath
check`` share it.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent import network as networks
from agent.case import took
from agent.checks import dress_of
from agent.diagnosis import unmasked
from agent.network import Network
from agent.rounds import Ran
from agent.store import Place, Store, TrustKey
from agent.trust import Record, after_run, is_proven
from agent.vantage import Judgement
from config.calibration import covers
from config.model import Calibrated, TargetConfig
from probes.model import Observation, Step, Target

VERIFIED_FOR = 7 * 86400.0
CALIBRATED_FOR = 30 * 86400.0
VOUCHED_FOR = 30 * 86400.0
"""Seconds for which a certificate vouches for an address: whatever a resolver still sends there
after that is no cache that is down for a while."""
FALLEN, FALLEN_MANY, FALLEN_SHARE = 0.85, 2, 0.1
"""The ways have become shorter when so many addresses, and such a share of those timed in a round,
answer within this part of what was their smallest RTT."""
_SELDOM = 3600.0
"""Seconds between two notes of the same certificate at the same place."""
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


@dataclass(frozen=True, slots=True)
class Unsaved:
    """The records that changed, the RTTs that became smaller, the certificates seen."""

    trust: Mapping[TrustKey, Record]
    rtts: Mapping[str, float]
    vouched: Mapping[Place, float]


class Learned:
    """Reads everything at once at the start; ``unsaved`` is what a round has added."""

    def __init__(self, store: Store, calibration: tuple[Calibrated, ...]) -> None:
        self.store = store
        self.calibration = calibration
        self._key = self._kept("network_key", lambda: os.urandom(32))
        self.networks = networks.load(store.get("networks"))
        self.current: Network | None = self.networks[0] if self.networks else None
        self.trust: dict[TrustKey, Record] = {}
        self.nearest: dict[str, float] = {}
        self._unsaved_trust: dict[TrustKey, Record] = {}
        self._unsaved_rtts: dict[str, float] = {}
        self._timed: dict[str, float] = {}
        self._fallen_at = 0.0
        self._vouched: dict[Place, float] = {}
        self._unsaved_vouched: dict[Place, float] = {}
        self._load()

    def vantage_name(self) -> str:
        """A random word that stays; never the host's name."""
        return self._kept("vantage_name", _random_word).decode()

    def _kept(self, key: str, make: object) -> bytes:
        kept = self.store.get(key)
        if kept is None:
            kept = make()  # type: ignore[operator] # a function of no arguments
            assert isinstance(kept, bytes)
            self.store.put(key, kept)
        return kept

    def _load(self) -> None:
        self.trust = self.store.trust(self.current.id) if self.current else {}
        self.nearest = self.store.rtts(self.current.id) if self.current else {}
        since = time.time() - VOUCHED_FOR
        self._vouched = self.store.vouched(self.current.id, since) if self.current else {}
        self._unsaved_trust, self._unsaved_rtts, self._unsaved_vouched = {}, {}, {}
        self._timed, self._fallen_at = {}, 0.0

    @property
    def network(self) -> str:
        """The id under which this network's things are kept; "" before the first round."""
        return self.current.id if self.current else ""

    # --- network ---

    def recognise(self, mapped: Mapping[str, frozenset[str]]) -> bool:
        """Settle which network this is; True when it is another one than before."""
        addresses = {address for seen in mapped.values() for address in seen}
        found = networks.recognise(
            self.current,
            self.networks,
            networks.mapped_hashes(self._key, addresses),
            networks.attachment(self._key),
        )
        changed = self.current is not None and found.id != self.current.id
        first = self.current is None
        if found != self.current:
            others = [n for n in self.networks if n.id != found.id]
            self.networks = [found, *others][: networks.KEPT]
            self.current = found
            self.store.put("networks", networks.dump(self.networks))
        if changed or first:
            self._load()
        return changed

    # --- trust ---

    def proven(self, target: TargetConfig, now: float | None = None) -> bool:
        calibrated = covers(self.calibration, _trusted(target), dress_of(target))
        return is_proven(
            self.trust.get(_key(target)),
            target.proof,
            calibrated.asked if calibrated else 0,
            calibrated.answered if calibrated else 0,
            time.time() if now is None else now,
        )

    def verified(self, target: TargetConfig, now: float) -> bool:
        """Did it answer here within seven days, or to a calibration within thirty?"""
        record = self.trust.get(_key(target))
        if record and record.last_verified and now - record.last_verified <= VERIFIED_FOR:
            return True
        known = covers(self.calibration, _trusted(target), dress_of(target))
        return known is not None and now - known.at <= CALIBRATED_FOR

    def note_round(self, ran: Ran, vantage: Judgement) -> None:
        """Count the verified answers of one round; what masks discard is left out."""
        seen = [(f, unmasked(f.measured.observations, vantage)) for f in ran.finished]
        self._note_rtts([o for _, usable in seen for o in usable])
        whole = ((f, usable) for f, usable in seen if usable and not f.ask.partial)
        runs = [(f, usable, any(o.works for o in usable)) for f, usable in whole]
        working = Counter(f.ask.target.target.channel for f, _, answered in runs if answered)
        for f, usable, answered in runs:
            target = f.ask.target
            siblings = working[target.target.channel] > answered
            key = _key(target)
            before = self.trust.get(key, Record())
            at = max(o.at for o in f.measured.observations)
            if target.relay is None:
                record = after_run(before, target.proof, answered, siblings, at)
                self.trust[key] = self._unsaved_trust[key] = record
            self._note_certificates(target, usable)

    def _note_rtts(self, seen: Iterable[Observation]) -> None:
        """The smallest of each address; and whether several fell so far below what was the smallest
        that the ways have become shorter, or that it was never the smallest there is."""
        timed = _smallest(seen)
        known = [(a, rtt, self.nearest[a]) for a, rtt, _ in timed if a in self.nearest]
        fallen = {address for address, rtt, least in known if rtt < FALLEN * least}
        if len(fallen) >= max(FALLEN_MANY, FALLEN_SHARE * len(known)):
            self._fallen_at = max(at for _, _, at in timed)
        for address, rtt, at in timed:
            self._timed[address] = max(at, self._timed.get(address, 0.0))
            if rtt < self.nearest.get(address, math.inf):
                self.nearest[address] = self._unsaved_rtts[address] = rtt

    def least(self) -> dict[str, float]:
        """The smallest RTT by address, of those that were timed since the ways last became shorter:
        what comes sooner than that came from nearer."""
        since = self._fallen_at
        return {a: rtt for a, rtt in self.nearest.items() if self._timed.get(a, 0.0) >= since}

    def unsaved(self) -> Unsaved:
        """What has changed since it was last asked."""
        unsaved = Unsaved(self._unsaved_trust, self._unsaved_rtts, self._unsaved_vouched)
        self._unsaved_trust, self._unsaved_rtts, self._unsaved_vouched = {}, {}, {}
        return unsaved

    def everything(self) -> Unsaved:
        """All of this network, for a store in which there may be nothing. From a thread."""
        return Unsaved(dict(self.trust), dict(self.nearest), dict(self._vouched))

    def not_saved(self, unsaved: Unsaved) -> None:
        """It could not be written: what has come since is newer, the rest is tried again."""
        self._unsaved_trust = {**unsaved.trust, **self._unsaved_trust}
        self._unsaved_rtts = {**unsaved.rtts, **self._unsaved_rtts}
        self._unsaved_vouched = {**unsaved.vouched, **self._unsaved_vouched}

    # --- certificates ---

    def _note_certificates(self, target: TargetConfig, seen: Iterable[Observation]) -> None:
        """Where a name led, and the certificate there was that name's."""
        for o in seen:
            if not (o.works and o.address and took(o, Step.RESOLVE) and took(o, Step.TLS)):
                continue
            place = target.target.messenger, target.target.name, o.address
            if o.at - self._vouched.get(place, -math.inf) > _SELDOM:
                self._vouched[place] = self._unsaved_vouched[place] = o.at

    def vouched(self, targets: Iterable[Target], now: float) -> frozenset[tuple[Target, str]]:
        """Addresses at which these showed their own certificates lately."""
        known = {(t.messenger, t.name): t for t in targets}
        return frozenset(
            (known[messenger, name], address)
            for (messenger, name, address), at in self._vouched.items()
            if (messenger, name) in known and now - at <= VOUCHED_FOR
        )


def _key(target: TargetConfig) -> TrustKey:
    return target.target.messenger, _trusted(target).name, dress_of(target)


def _trusted(target: TargetConfig) -> Target:
    """Whose answers count: a stream of our own making is to a relay that is asked anyway."""
    return target.relay or target.target


def _smallest(observations: Iterable[Observation]) -> list[tuple[str, float, float]]:
    """Address, RTT in seconds and when, of what works."""
    found = []
    for o in observations:
        rtt = o.facts.get("rtt_min_seconds", o.facts.get("rtt_seconds"))
        if o.works and o.address and isinstance(rtt, float):
            found.append((o.address, rtt, o.at))
    return found


def _random_word() -> bytes:
    syllables = [secrets.choice(_CONSONANTS) + secrets.choice(_VOWELS) for _ in range(4)]
    return "".join(syllables).encode()
