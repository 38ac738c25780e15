"""The agent between its parts: rounds in, states and figures out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from agent import callflow, judging, rounds, streams
from agent.beside import besides
from agent.case import Known
from agent.checks import environment
from agent.companion import companion
from agent.diagnosis import PACED, SEEN_FOR, Evidence, diagnose, fallen, starting, works
from agent.enginedoor import EngineDoor
from agent.followup import CUT_OFF, Followed, Follower, is_private
from agent.history import History, asked
from agent.knobs import knobs_of
from agent.learned import Learned
from agent.ledger import Ledger
from agent.localise import Localiser
from agent.logs import bug_in, line_changed
from agent.network import default_route, is_tunnel
from agent.outage import Outage
from agent.outside import OutsideView
from agent.peers import peers
from agent.present import present, present_vantage
from agent.recorded import Judged
from agent.rounds import Beat, Controls, Ran, Runner
from agent.saving import Saving
from agent.state import STEADY, WINDOW, ChannelState, Steady, fold, is_news, noted, resumed
from agent.store import Store
from agent.streamlog import StreamLog
from agent.vantage import CALM, MASKING, Judgement, Surroundings, judge
from agent.verdicts import explain
from config.model import Config, MessengerConfig, TargetConfig
from exporters.feed import AgentFigures, ChannelFigures, Update
from probes.measure import BOTH
from probes.model import CONTROL, Diagnosis, Report, Status, Vantage, VantageStatus

log = logging.getLogger(__name__)

QUIET_ROUNDS = 2
"""Rounds left out after a change of network."""


class Core:
    """One configuration at work. ``publish`` takes each update for the web process.

    Made anew at a reload; what was confirmed comes back from the store.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        figures: AgentFigures,
        publish: Callable[[Update], None],
        history: History | None = None,
    ) -> None:
        self.config = config
        self.store = store
        self.knobs = knobs_of(config)
        self.env, self.manners = environment(config)
        self.env.streams = self.engine = EngineDoor()
        self.outside = OutsideView(config.settings.outside, self.env)
        self.learned = Learned(store, config.calibration)
        self.history = history or History(store, None, self.knobs.cadence.interval, dict)
        spent, states = self.manners.spent, lambda: self.states
        self.saving = Saving(store, self.learned, spent, self.history, states)
        self.figures = figures
        self.name = config.settings.vantage.name or self.learned.vantage_name()
        self._publish = publish
        gate = asyncio.Semaphore(config.settings.limits.concurrency)
        self.messengers = {m.name: m for m in config.messengers}
        count = len(config.controls) + sum(len(m.targets) for m in config.messengers)

        def runner(name: str, targets: tuple[TargetConfig, ...]) -> Runner:
            return Runner(name, targets, self.env, gate, others=count - len(targets))

        self.controls = runner(CONTROL, config.controls)
        self.runners = {m.name: runner(m.name, m.targets) for m in config.messengers}
        horizon = SEEN_FOR * self.knobs.cadence.interval
        self.states: dict[tuple[str, str], ChannelState] = {
            key: resumed(state, time.time(), horizon)
            for key, state in store.states(self.learned.network).items()
        }
        self.shown: dict[tuple[str, str], Diagnosis] = {}
        self.steady = Steady()
        self.judgement: Judgement | None = None
        self.families = BOTH
        self.quiet = 0
        self.ledger = Ledger(figures)
        research = config.settings.profile == "research"
        self.follower = Follower(
            self.env, self.manners, research, figures.contrasts_skipped, companion(config)
        )
        self.localiser = Localiser(
            config.settings.localise, store, self.env, self.manners, self.knobs.scale
        )
        self._undecided: dict[str, frozenset[str]] = {}
        self.evidence: dict[str, list[Evidence]] = {}
        self._heard: dict[str, float] = {}
        self.stream_log, self._outage = StreamLog(), Outage()
        self.ready = False
        self.controls_task: asyncio.Task[Controls] | None = None
        self.manners.restore(store.get("bytes_today") or b"")
        for target in (*config.controls, *(t for m in config.messengers for t in m.targets)):
            self.ledger.of(target).proven = self.learned.proven(target)
        self._start_shown()

    # --- rounds ---

    async def run_controls(self, beat: Beat, *, in_full: bool) -> Controls:
        """The controls of one beat: what they say of the line, the network, and of themselves."""
        self.env.own.refresh()
        cadence = self.knobs.controls
        # Everything undecided: a control that just failed is asked in full at once.
        ran = await self.controls.run(
            beat, cadence, self._failing_controls(), BOTH, in_full=in_full
        )
        mapped = rounds.mapped_by_owner(ran)
        self.env.own.mapped |= {a for seen in mapped.values() for a in seen}
        now = time.time()
        evidence = self.controls.evidence(ran, cadence, self.learned.proven, now)
        current = [e for e in evidence if e.config.target.name not in ran.unfinished]
        heard = self._heard_lately(evidence, now)
        judgement = judge(rounds.control_results(current, heard), self._surroundings(mapped, ran))
        self.families = judgement.families or self.families
        self.judgement = judgement
        down = bool(judgement.masks) or not judgement.abroad
        runners, drops = self.runners.values(), (self.stream_log.drop, self.follower.drop)
        over = self._outage.step(down, beat.spoiled, beat.at, runners, *drops)
        settling = over and judgement.share < STEADY  # a line that is whole hides no block
        # A round by hand never touches channel states: those of another network do not count.
        if self.learned.recognise(mapped) and not in_full:
            await self._new_network()
        self.learned.note_round(ran, judgement)
        if judgement.controls:
            before, self.steady = self.steady, self.steady.step(str(judgement.status), CALM)
            line_changed(before.shown, self.steady.shown, judgement.reason)
        flapped = rounds.flapped(self.evidence.get(CONTROL, ()), evidence)
        self.evidence[CONTROL] = evidence
        self.history.note_controls(now, judgement, ran)
        twin, turn = self.follower.twin, self.figures.rounds[CONTROL]
        self.env.beside = besides(twin, evidence, self.stream_log.twin_silent, turn, now)
        self.figures.rounds[CONTROL] += 1
        self._note(ran, self.controls, evidence, judgement)
        self._flush(CONTROL, evidence, None)
        quiet, self.quiet = self.quiet > 0, max(0, self.quiet - 1)
        spoiled = quiet or beat.spoiled or not judgement.controls
        return Controls(judgement, mapped, spoiled, quiet, settling, flapped)

    def _heard_lately(self, evidence: list[Evidence], now: float) -> set[str]:
        """The controls that answered in the last rounds, as many as the window of a state has."""
        fresh = (e for e in evidence if e.fresh and works(e.observations))
        self._heard.update({e.config.target.name: now for e in fresh})
        horizon = WINDOW * self.knobs.controls.interval * 1.2
        return {name for name, at in self._heard.items() if now - at < horizon}

    def _failing_controls(self) -> frozenset[str]:
        """Controls have no channel: all of them are asked in full while one that worked fails, and
        while a messenger's state is undecided, so that it is held against controls of its round."""
        failing = any(
            e.proven and e.fresh and not e.config.informative and works(e.observations) is False
            for e in self.evidence.get(CONTROL, ())
        )
        return frozenset({""}) if failing or any(self._undecided.values()) else frozenset()

    def _surroundings(self, mapped: Mapping[str, frozenset[str]], ran: Ran) -> Surroundings:
        interface, _ = default_route()
        by_family: dict[bool, set[str]] = {False: set(), True: set()}
        for addresses in mapped.values():
            for address in addresses:
                by_family[":" in address].add(address)
        return Surroundings(
            tunnel_route=is_tunnel(interface),
            mapped_differ=any(len(seen) > 1 for seen in by_family.values()),
            lateness=rounds.lateness(ran),
        )

    async def run_messenger(self, name: str, beat: Beat) -> tuple[Diagnosis, ...]:
        """One scheduled round of one messenger: ask, judge, fold into the state, publish."""
        if reason := self.manners.refusal():
            return self._rest(name, reason)
        messenger, runner = self.messengers[name], self.runners[name]
        cadence = self.knobs.cadence
        undecided = self._undecided.get(name, frozenset())
        began, over = time.time(), time.monotonic() + CUT_OFF * cadence.interval
        await self.follower.before(runner, self.evidence.get(CONTROL, ()), cadence)
        ran, controls = await asyncio.gather(
            self._ask(name, beat, undecided), self.controls_of(beat)
        )
        self.figures.rounds[name] += 1
        now = time.time()
        if controls is None:
            log.warning("%s: no controls in this round, it counts for nothing", name)
            return ()
        judgement = controls.judgement
        if not judgement.masks and not controls.spoiled:
            self.learned.note_round(ran, judgement)
            self.stream_log.note(name, ran, now)
        evidence = runner.evidence(ran, cadence, self.learned.proven, now)
        judged = await self.diagnose(messenger, ran, evidence, controls, over)
        raw = judged.raw
        self._note(ran, runner, evidence, judgement)
        concluded = rounds.concluded(ran)
        played = rounds.streamed(ran)
        fetched = rounds.fetched(ran) | self.follower.fetched_lately(name, beat.at)
        by_reason = {**dict.fromkeys(PACED, fetched), streams.HEARD: played}
        by_reason[callflow.CUT_OFF] = played
        shown = tuple(
            self._fold(d, controls, began, by_reason.get(d.reason, concluded)) for d in raw
        )
        self.history.note_round(judged, shown)
        fell = fallen(self.evidence.get(name, ()), evidence)
        self._undecided[name] = frozenset(
            d.channel for d in raw if self._is_undecided(d, d.channel in fell)
        )
        self.evidence[name] = evidence
        states = {k: s for k, s in self.states.items() if k[0] == name}
        await self.saving.save(states)
        self._flush(name, evidence, shown)
        await self.localiser.after(shown, evidence, self.evidence.get(CONTROL, ()))
        return shown

    async def _ask(self, name: str, beat: Beat, undecided: frozenset[str]) -> Ran:
        """What is due; and where something fell of which only a part was asked, the rest of it."""
        runner, cadence = self.runners[name], self.knobs.cadence
        ran = await runner.run(beat, cadence, undecided, self.families)
        if all(works(f.measured.observations) for f in ran.finished):
            return ran
        evidence = runner.evidence(ran, cadence, self.learned.proven, time.time())
        fell = fallen(self.evidence.get(name, ()), evidence)
        return await runner.go_on(ran, beat, cadence, fell, self.families) if fell else ran

    async def diagnose(
        self,
        messenger: MessengerConfig,
        ran: Ran,
        evidence: list[Evidence],
        controls: Controls,
        over: float,
    ) -> Judged:
        """Statuses, and where something fails, what was done to it; contrasts are asked until
        ``over`` (monotonic seconds)."""
        judgement, now = controls.judgement, time.time()
        kept = self.follower.kept.get(messenger.name, ())
        raw = judging.statuses(messenger, evidence, judgement, kept)
        judged = Judged(
            messenger.name, now, judgement, tuple(evidence), asked(ran), kept, None, raw
        )
        followed = Followed(messenger, self.runners[messenger.name], ran, raw, evidence, judgement)
        past = self.follower.remember(followed, settling=controls.settling)
        if judging.is_fine(raw, evidence, kept):
            return judged
        verified = frozenset(
            e.config.target.name for e in evidence if self.learned.verified(e.config, now)
        )
        contrasts = await self.follower.after(
            followed,
            self.evidence[CONTROL],
            verified,
            self.knobs.cadence,
            over - time.monotonic(),
        )
        heard = self._heard_lately(self.evidence[CONTROL], now)
        if ran.in_full:  # a round by hand has no rounds before it, but a memory
            known_before = (e.config for e in self.evidence[CONTROL])
            heard |= {c.target.name for c in known_before if self.learned.verified(c, now)}
        known = Known(
            contrasts=contrasts,
            controls=tuple(rounds.control_results(self.evidence[CONTROL], heard)),
            verified=verified,
            nearest=self.learned.nearest,
            least=self.learned.least(),
            vouched=self.learned.vouched((e.config.target for e in evidence), now),
            flapped=controls.flapped,
            private_resolver=is_private(self.env),
            outside=self.outside.sees((e.config.target for e in evidence), time.time()),
            slow_outside=self.outside.slow((e.config.target for e in evidence), time.time()),
            transfers=tuple(rounds.transfers(self.evidence[CONTROL])),
            past=past,
            streams=self.stream_log.of(messenger.name),
            spacing=self.knobs.policy.spacing,
            by_hand=ran.in_full,
            peers=peers(self.runners, messenger.name, now - 1.5 * self.knobs.cadence.interval),
        )
        raw = explain(raw, messenger, evidence, judgement, known)
        return replace(judged, known=known, raw=raw)

    def _rest(self, name: str, reason: str) -> tuple[Diagnosis, ...]:
        """A round in which nothing may be asked: what is not measured is soon not known."""
        runner, nothing = self.runners[name], Ran((), frozenset(), ())
        self.figures.checks_skipped[reason] += len(runner.targets)
        now = time.time()
        evidence = [
            replace(e, fresh=False)
            for e in runner.evidence(nothing, self.knobs.cadence, self.learned.proven, now)
        ]
        self.judgement = judge([], Surroundings())
        controls = Controls(self.judgement, {}, spoiled=True)
        raw = diagnose(self.messengers[name], evidence, self.judgement)
        shown = tuple(self._fold(d, controls, now, frozenset()) for d in raw)
        self._flush(name, evidence, shown)
        return shown

    async def controls_of(self, beat: Beat) -> Controls | None:
        """The controls of this beat, run by whichever round comes first; None after a bug."""
        if beat.controls is None:
            beat.controls = self.controls_task = asyncio.create_task(
                self.run_controls(beat, in_full=False)
            )
            beat.controls.add_done_callback(bug_in("the controls' round"))
        await asyncio.wait([beat.controls])
        if beat.controls.cancelled() or beat.controls.exception():
            return None
        return beat.controls.result()

    def _fold(
        self, raw: Diagnosis, controls: Controls, now: float, concluded: frozenset[str]
    ) -> Diagnosis:
        """``now``: when the round began, since it is the beginnings that are an interval apart;
        ``concluded``: the targets of which this very round learned something."""
        key = (raw.messenger, raw.channel)
        state = self.states.get(key, ChannelState())
        masked = controls.judgement.masks or not controls.judgement.abroad
        settling = controls.settling and raw.status not in (Status.OK, state.confirmed)
        news = is_news(raw, state.confirmed, concluded) and not settling
        state = fold(
            state,
            Status.UNKNOWN if controls.spoiled else raw.status,
            now,
            controls.judgement.share,
            self.knobs.policy,
            spoiled=masked or controls.spoiled,
            news=news,
        )
        counts = news and not controls.spoiled
        state = noted(state, raw, now, self.knobs.policy, counts=counts)
        self.states[key] = state
        told = present(raw, state, self._vantage_shown(), quiet=controls.quiet)
        return self.localiser.told(told)

    def _is_undecided(self, raw: Diagnosis, fell: bool) -> bool:
        """A change is under way, or a target that worked has just failed."""
        state = self.states[(raw.messenger, raw.channel)]
        if state.confirmed is None:
            return raw.status not in (Status.OK, Status.UNKNOWN)
        if raw.status is Status.UNKNOWN:
            return False
        return fell or raw.status is not state.confirmed

    async def _new_network(self) -> None:
        """A new epoch: what was said of the old network does not hold here."""
        log.info("another network: states begin anew after %d quiet rounds", QUIET_ROUNDS)
        self.figures.network_changes += 1
        self.states.clear()
        self.quiet = QUIET_ROUNDS
        self.follower.forget()
        await self.localiser.forget()
        self.stream_log.forget()
        for runner in self.runners.values():
            runner.forget()
        await asyncio.to_thread(self.store.forget_states)

    # --- what is shown ---

    def _vantage_shown(self) -> VantageStatus:
        return VantageStatus(self.steady.shown) if self.steady.shown else VantageStatus.ONLINE

    def vantage(self) -> Vantage:
        return present_vantage(self.name, self._vantage_shown(), self.judgement)

    def everything(self) -> Update:
        """The whole state, for a web process that starts with nothing."""
        self._refresh_figures()
        return Update(
            agent=self.figures,
            targets=dict(self.ledger.targets),
            channels=self._channel_figures(),
            report=self.report(),
            titles={m.name: m.title for m in self.config.messengers},
            ready=self.ready,
            reset=True,
        )

    def _start_shown(self) -> None:
        """Every channel is there from the first scrape on, as it was confirmed before the start."""
        for messenger in self.config.messengers:
            for raw in starting(messenger, self.learned.proven):
                key = (raw.messenger, raw.channel)
                state = self.states.get(key, ChannelState())
                self.shown[key] = present(raw, state, VantageStatus.ONLINE, quiet=False)

    def report(self) -> Report:
        return Report(time.time(), self.vantage(), tuple(self.shown.values()))

    def _note(self, ran: Ran, runner: Runner, evidence: list[Evidence], seen: Judgement) -> None:
        def turn(target: TargetConfig) -> float:
            return runner.turn_of(
                target, self.knobs.controls if target.role else self.knobs.cadence
            )

        self.ledger.note(ran, evidence, seen.families or self.families, turn, time.time())

    def _flush(
        self, name: str, evidence: list[Evidence], shown: tuple[Diagnosis, ...] | None
    ) -> None:
        """Send the web process what this round changed."""
        changed: dict[tuple[str, str], Diagnosis] = {}
        if shown is not None:
            self.ready = True
            for d in shown:
                self._log_change(d)
                changed[(d.messenger, d.channel)] = d
        self.shown.update(changed)
        changed |= self._reshow()
        self._refresh_figures()
        if name == CONTROL:  # once a round
            self.manners.forget_old()
        self._publish(
            Update(
                agent=self.figures,
                targets={(name, e.config.target.name): self.ledger.of(e.config) for e in evidence},
                channels=self._channel_figures(name),
                report=Report(time.time(), self.vantage(), tuple(changed.values())),
                ready=self.ready,
            )
        )

    def _log_change(self, now: Diagnosis) -> None:
        before = self.shown.get((now.messenger, now.channel))
        if before is not None and before.status is not now.status:
            channel = f"{now.messenger} {now.channel}"
            log.info("%s: %s -> %s: %s", channel, before.status, now.status, now.summary)

    def _channel_figures(self, name: str = "") -> dict[tuple[str, str], ChannelFigures]:
        """Those of one messenger, or all."""
        return {
            k: ChannelFigures(s.success_ratio)
            for k, s in self.states.items()
            if not name or k[0] == name
        }

    def _reshow(self) -> dict[tuple[str, str], Diagnosis]:
        """A vantage that went offline turns every channel unknown at once; those it changed."""
        vantage = self._vantage_shown()
        changed: dict[tuple[str, str], Diagnosis] = {}
        if vantage in MASKING:
            for key, d in self.shown.items():
                state = self.states.get(key)
                again = d if state is None else present(d, state, vantage, quiet=False)
                if again != d:
                    changed[key] = again
            self.shown.update(changed)
            self.history.show(changed.values(), time.time())
        return changed

    def _refresh_figures(self) -> None:
        f, traffic = self.figures, self.env.traffic
        f.sent_bytes, f.received_bytes = traffic.sent, traffic.received
        f.budget_bytes = self.manners.limits.bytes_per_day
        f.storage_healthy = self.store.healthy

    def take_over(self, old: Core) -> None:
        """After a reload: what was measured a moment ago is still true of the same targets, and
        manners hold across it."""
        self.manners.inherit(old.manners)
        self.env.streams, self.engine = old.env.streams, old.engine  # long-lived flows go on
        self.outside.inherit(old.outside)
        self.env.own.mapped |= old.env.own.mapped
        self.stream_log, self._outage = old.stream_log, old._outage
        self.steady, self.judgement, self.families = old.steady, old.judgement, old.families
        self.quiet, self.ready = old.quiet, old.ready
        self.shown.update({key: d for key, d in old.shown.items() if key in self.shown})
        for runner, before in (
            (self.controls, old.controls),
            *((r, old.runners[n]) for n, r in self.runners.items() if n in old.runners),
        ):
            same = set(runner.targets) & set(before.targets)
            names = {t.target.name for t in same}
            runner.seen = {n: seen for n, seen in before.seen.items() if n in names}
            for target in same:
                key = (target.target.messenger, target.target.name)
                self.ledger.targets[key] = old.ledger.targets[key]

    async def stop(self) -> None:
        """Stop all sending; what is under way reports nothing."""
        await asyncio.gather(self.outside.stop(), self.localiser.stop())
        if self.controls_task is not None:
            self.controls_task.cancel()
            await asyncio.gather(self.controls_task, return_exceptions=True)
        runners = (self.controls, *self.runners.values())
        await asyncio.gather(*(runner.stop() for runner in runners))
