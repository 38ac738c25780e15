"""Signs of media streams, held against what ran beside them packet by packet. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from agent.case import Case, Group
from agent.chance import at_most
from agent.facts import count, number
from agent.sighting import Sighting, Sign, ids_of, over_tcp
from agent.streams import is_bad
from probes.model import Observation

RUNS, NEEDED = 3, 2
"""A stream is worse than its control when so many of its last runs say so: one alone is chance."""
POOR = 0.05
P = 0.01
NEARLY_ALL, HARDLY_ANY = 0.8, 0.05
SAME_DIFFERENCE = ("twin", "dress", "tcp")
"""Controls that differ from the target in one thing. A stranger's server lies elsewhere too."""


def _runs(case: Case, group: Group) -> list[tuple[Observation, ...]]:
    """The last runs of each of the group's targets, the newest last."""
    names = dict.fromkeys(o.target.name for o in group.observations)
    return [case.known.streams.get(name, ())[-RUNS:] for name in names]


def _again(
    case: Case, group: Group, counts: Callable[[Observation], bool | None]
) -> Sighting | None:
    """Does it hold in two of the last three runs, of most of the targets? A run of which
    ``counts`` knows nothing is none."""
    told: list[bool] = []
    evidence: list[Observation] = []
    for runs in _runs(case, group):
        known = [(o, holds) for o in runs if (holds := counts(o)) is not None]
        if len(known) >= NEEDED:
            told.append(sum(holds for _, holds in known) >= NEEDED)
            evidence += [o for o, holds in known if holds]
    return Sighting(2 * sum(told) > len(told), ids_of(evidence)) if told else None


def _worse(*kinds: str) -> Callable[[Case, Group], Sighting | None]:
    def held(o: Observation) -> bool | None:
        if o.facts.get("control") not in kinds or not count(o, "control_answered"):
            return None
        return o.facts.get("pair_worse") is True

    return lambda case, group: _again(case, group, held)


def _control_clean(case: Case, group: Group) -> Sighting | None:
    return _again(case, group, lambda o: None if (bad := _control_bad(o)) is None else bad < POOR)


def _control_as_bad(case: Case, group: Group) -> Sighting | None:
    """In this very run: what the line does to everything needs no second one."""
    told = [
        (o, bad >= POOR and o.facts.get("pair_worse") is not True)
        for o in group.observations
        if (bad := _control_bad(o)) is not None
    ]
    found = [o for o, holds in told if holds]
    return Sighting(2 * len(found) > len(told), ids_of(found)) if told else None


def _control_bad(o: Observation) -> float | None:
    return number(o, "control_bad_ratio")


def _owner_tcp_clean(case: Case, group: Group) -> Sighting | None:
    """Would so few of the owner's TCP connections have lost a packet if the way to it lost as many
    as the stream did? A connection repeats its first packet when that or its answer is lost, which
    is as likely as that one packet of a stream is not answered."""
    shares = [_excess(o) for o in group.observations]
    asked, dragged = case.known.owner_tcp
    if not shares or not asked:
        return None
    expected = max(0.0, min(0.95, sorted(shares)[len(shares) // 2]))
    now = over_tcp(o for _, seen in case.seen for o in seen)
    return Sighting(at_most(dragged, asked, expected) < P, ids_of(now))


def _excess(o: Observation) -> float:
    return (number(o, "loss_ratio") or 0.0) - (number(o, "control_loss_ratio") or 0.0)


def _companion_clean(case: Case, group: Group) -> Sighting | None:
    """The slow stream beside the fast one loses so little that it is no chance."""
    told = []
    for o in group.observations:
        asked = count(o, "companion_requests")
        if asked:
            lost, share = asked - count(o, "companion_answered"), number(o, "loss_ratio") or 0.0
            told.append((o, lost <= POOR * asked and at_most(lost, asked, share) < P))
    found = [o for o, holds in told if holds]
    return Sighting(2 * len(found) > len(told), ids_of(found)) if told else None


def _one_way(case: Case, group: Group) -> Sighting | None:
    def one(o: Observation) -> bool | None:
        up, down = number(o, "control_up_loss_ratio"), number(o, "control_down_loss_ratio")
        if up is None or down is None:
            return None
        return max(up, down) >= NEARLY_ALL and min(up, down) <= HARDLY_ANY

    return _again(case, group, one)


def poor_targets(seen: Iterable[Observation]) -> Sequence[Observation]:
    return [o for o in seen if is_bad(o)]


SIGNS: dict[Sign, Callable[[Case, Group], Sighting | None]] = {
    Sign.WORSE_THAN_TWIN: _worse(*SAME_DIFFERENCE),
    Sign.WORSE_THAN_STRANGER: _worse("stun"),
    Sign.CONTROL_STREAM_CLEAN: _control_clean,
    Sign.CONTROL_STREAM_BAD: _control_as_bad,
    Sign.OWNER_TCP_CLEAN: _owner_tcp_clean,
    Sign.COMPANION_CLEAN: _companion_clean,
    Sign.ONE_WAY: _one_way,
}
