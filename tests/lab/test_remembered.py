"""Traces past filters that remember addresses: each run waits until they have forgotten."""

from __future__ import annotations

import pytest

from tests.lab.actions import Action, Drop, RewriteToReset
from tests.lab.censor import Censor, match
from tests.lab.lab import Lab
from tests.lab.walking import asked, walk

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.long]

NAME = "web.whatsapp.com"
HOP = 3
WINDOW, PAUSE = 3.0, 4.0


@pytest.mark.parametrize("scope", ["3-tuple", "2-tuple"])
@pytest.mark.parametrize("action", [Drop(), RewriteToReset()], ids=["drop", "rewritten"])
def test_a_name(lab: Lab, action: Action, scope: str) -> None:
    web = lab.catalogue.names[NAME][0]
    what = match(sni=NAME, remote=f"{web}/32")
    lab.world.rules.add(Censor(what, action, residual=scope, seconds=WINDOW, hop=HOP))
    told = walk(lab.world, asked("tls", web, 443, NAME, pause=PAUSE), raw=False)
    assert (told["result"], told["interval"]) == ("found", {"low": HOP, "high": HOP + 1}), told
    assert told["agreement"] == {"agree": 5, "runs": 5}
    assert told["seconds"] >= 5 * PAUSE


def test_a_hello_of_dtls(lab: Lab) -> None:
    relay = lab.catalogue.select(messenger="whatsapp", channel="call", probe="stun")[0]
    address = relay.addresses[0]
    what = match(dtls=True, remote=f"{address}/32")
    lab.world.rules.add(Censor(what, Drop(), residual="3-tuple", seconds=WINDOW, hop=HOP))
    told = walk(lab.world, asked("dtls", address, relay.port, pause=PAUSE), raw=False)
    assert (told["result"], told["interval"]) == ("found", {"low": HOP, "high": HOP + 1}), told
    assert told["seconds"] >= 5 * PAUSE
