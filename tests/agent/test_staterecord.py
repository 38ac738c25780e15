"""What a channel's state is in the store."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from agent.state import ChannelState, Vote
from agent.staterecord import state_from, written
from probes.model import Status

statuses = st.sampled_from([s for s in Status if s is not Status.UNKNOWN])
votes = st.lists(st.builds(Vote, st.floats(0, 2e9), statuses, st.floats(0, 1)), max_size=5).map(
    tuple
)
states = st.builds(
    ChannelState,
    st.none() | statuses,
    st.none() | st.floats(0, 2e9),
    st.booleans(),
    votes,
    votes,
)


@given(states)
def test_every_state_is_read_as_it_was_written(state):
    assert state_from(json.loads(json.dumps(written(state)))) == state
