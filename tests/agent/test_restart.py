"""What outlives a network, the agent's end and a reload, and what does not."""

from __future__ import annotations

import asyncio

from agent.core import QUIET_ROUNDS
from agent.rounds import Beat
from exporters.mirror import Mirror
from exporters.prometheus import render
from probes.model import Proof, Status
from tests.agent.building import messenger, until
from tests.agent.line import CHAT, OURS, RELAYS, STUN

# --- networks --------------------------------------------------------------------------------


async def test_another_network_begins_anew_after_two_quiet_rounds(line):
    await line.round()
    line.world.silent.update(RELAYS)
    assert (await line.statuses(3))["call"] == "unreachable"
    line.move("100.64.7.7", "lte")
    for _ in range(QUIET_ROUNDS):
        shown = await line.round()
        assert {d.reason for d in shown.values()} == {"network_changed"}
        assert {d.status for d in shown.values()} == {Status.UNKNOWN}
    shown = await line.round()
    assert shown["call"].reason == "settling"
    assert shown["chat"].status is Status.OK
    assert line.figures.network_changes == 1
    assert (await line.statuses(2))["call"] == "unreachable"


async def test_a_network_that_changes_while_a_round_is_under_way_breaks_nothing(line, caplog):
    """The controls are heard before the messenger's own checks have ended."""
    await line.round()
    line.move("100.64.7.7", "lte")
    line.world.hanging.add(RELAYS[0])
    task = asyncio.create_task(line.round())
    await until(lambda: line.figures.network_changes)
    line.world.hanging.clear()
    shown = await task
    assert {d.reason for d in shown.values()} == {"network_changed"}
    await line.round()
    assert await line.statuses() == {"call": "ok", "chat": "ok"}
    assert "bug" not in caplog.text


async def test_what_worked_at_home_is_no_evidence_elsewhere(line):
    assert (await line.statuses())["chat"] == "ok"
    line.move("100.64.7.7", "lte")
    line.world.resetting.add(CHAT)
    await line.round(QUIET_ROUNDS)
    shown = await line.round()
    assert shown["chat"].reason == "settling"


async def test_back_home_trust_is_still_there(line):
    line.core = line.make(line.messenger(proof=Proof.UNPROVEN))
    await line.round(10)
    assert line.core.learned.proven(line.core.messengers["m"].targets[0])
    line.move("100.64.7.7", "lte")
    await line.round()
    assert not line.core.learned.proven(line.core.messengers["m"].targets[0])
    line.move(OURS, "wlan")
    await line.round()
    assert line.core.learned.proven(line.core.messengers["m"].targets[0])


# --- restart and reload ----------------------------------------------------------------------


async def test_the_next_start_goes_on_with_what_was_confirmed(line):
    await line.round()
    line.world.silent.update(RELAYS)
    await line.round(3)
    line.restart()
    before = {d.channel: d.status for d in line.core.report().diagnoses}
    assert before == {"call": Status.UNREACHABLE, "chat": Status.OK}
    assert not line.core.ready
    assert (await line.statuses())["call"] == "unreachable"


async def test_a_restart_in_the_middle_of_counting_goes_on_counting(line):
    await line.round()
    line.world.silent.update(RELAYS)
    await line.round(2)
    line.restart()
    assert (await line.statuses())["call"] == "unreachable"


async def test_after_days_off_two_old_rounds_are_not_in_a_row_with_a_new_one(line):
    await line.round()
    line.world.silent.update(RELAYS)
    await line.round(2)
    line.restart(3 * 86400)
    assert (await line.statuses())["call"] == "ok"


async def test_before_the_first_round_every_channel_is_there(line):
    report = line.core.report()
    assert {(d.channel, d.status, d.reason) for d in report.diagnoses} == {
        ("call", Status.UNKNOWN, "starting"),
        ("chat", Status.UNKNOWN, "starting"),
    }
    assert {d.deciding for d in report.diagnoses} == {5, 1}


async def test_a_reload_keeps_what_was_measured_and_what_manners_know(line):
    await line.round(2)
    old = line.core
    sent = old.env.traffic.sent
    line.core = line.make(line.messenger())
    line.core.take_over(old)
    assert line.core.env.traffic.sent == sent
    assert line.core.ready
    assert {d.status for d in line.core.report().diagnoses} == {Status.OK}
    assert OURS in line.core.env.own.mapped, "our address stays known, or it would leak"
    assert line.core.ledger.targets[("m", "relay0")].runs == 2
    line.world.asked.clear()
    shown = await line.core.run_messenger("m", Beat(line.clock.wall - 60))
    assert {d.status for d in shown} == {Status.OK}


async def test_a_reload_right_after_another_network_stays_quiet(line):
    await line.round()
    line.move("100.64.7.7", "lte")
    await line.round()
    old = line.core
    line.core = line.make(line.messenger())
    line.core.take_over(old)
    shown = await line.round()
    assert {d.reason for d in shown.values()} == {"network_changed"}


async def test_series_of_removed_targets_disappear_at_a_reload(line):
    await line.round()
    old, mirror = line.core, Mirror()
    mirror.apply(old.everything(), 0.0)
    assert b'target="relay4"' in render(mirror, "", line.clock.wall)[0]
    fewer = messenger(*line.messenger().targets[:2])
    line.core = line.make(fewer)
    line.core.take_over(old)
    await line.round()
    mirror.apply(line.core.everything(), 1.0)
    for update in line.updates[-2:]:
        mirror.apply(update, 2.0)
    page = render(mirror, "", line.clock.wall)[0]
    assert b'target="relay1"' in page
    assert b'target="relay4"' not in page


async def test_what_was_stopped_publishes_nothing_more(line):
    await line.round()
    line.world.hanging.update(STUN)
    beat = Beat(line.clock.wall)
    task = asyncio.create_task(line.core.run_messenger("m", beat))
    await until(lambda: line.world.sending[STUN[0]])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    published = len(line.updates)
    await line.core.stop()
    line.world.hanging.clear()
    await asyncio.sleep(0.1)
    assert len(line.updates) == published
    assert beat.controls is not None
    assert beat.controls.done()
