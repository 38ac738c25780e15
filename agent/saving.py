"""Writing down what the rounds of a beat have added, in as few transactions as there need be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from agent.history import History
from agent.learned import Learned, Unsaved
from agent.state import ChannelState
from agent.store import Store

States = Mapping[tuple[str, str], ChannelState]


class Saving:
    """Rounds that end together share a transaction, and each waits until its own states are
    written. What was learned and could not be written goes with the next. ``budget`` gives the
    day's bytes as they are kept, ``states`` all that are confirmed: both go whole into a store
    that took the place of another."""

    def __init__(
        self,
        store: Store,
        learned: Learned,
        budget: Callable[[], bytes],
        history: History,
        states: Callable[[], States] = dict,
    ) -> None:
        self._store, self._learned, self._budget = store, learned, budget
        self._history, self._states = history, states
        self._waiting: dict[tuple[str, str], ChannelState] = {}
        self._one_at_a_time = asyncio.Lock()

    async def save(self, states: States) -> None:
        self._waiting.update(states)
        async with self._one_at_a_time:
            if states and not self._waiting:
                return  # the round before took them along
            taken, self._waiting = self._waiting, {}
            unsaved = self._learned.unsaved()
            network = self._learned.network
            written = await asyncio.to_thread(self._write, network, unsaved, taken)
            if not written and network == self._learned.network:
                self._learned.not_saved(unsaved)  # states come anew with every round

    def _write(self, network: str, unsaved: Unsaved, states: States) -> bool:
        """In one transaction, in a thread; and in a second one, where the first finds damage."""
        written = self._write_once(network, unsaved, states)
        if not written and self._store.owed:
            written = self._write_once(network, unsaved, states)
        return written

    def _write_once(self, network: str, unsaved: Unsaved, states: States) -> bool:
        if self._store.look() and network == self._learned.network:
            unsaved, states = self._learned.everything(), {**self._states(), **states}
        written, history_written = self._store.save_round(
            network,
            trust=unsaved.trust,
            rtts=unsaved.rtts,
            vouched=unsaved.vouched,
            states=states,
            bytes_today=self._budget(),
            history=self._history.work(),
        )
        self._history.saved(written=history_written)
        if history_written and self._history.limits is not None:
            self._store.give_back(self._history.limits.max_size)
        return written
