"""The page in a real browser: nothing that its policy refuses, and news without a reload."""

from __future__ import annotations

import time
from dataclasses import replace

from exporters.mirror import Mirror
from exporters.web import WebSettings
from probes.model import Certainty, Mechanism, Status
from tests.exporters.building import (
    SCRIPT,
    agent_figures,
    diagnosis,
    finding,
    report,
    update,
)
from tests.exporters.written import Written
from tests.pages.browser import browser
from tests.pages.serving import serving
from tests.probes.programs import in_namespace, need

HASTE = "const every = window.setInterval; window.setInterval = (f, ms) => every(f, ms / 100);"
"""The page asks for news every 50 ms."""
PHONE = (360, 740)
CALL = "document.querySelector('#m-call .status')"
PROBED = "document.getElementById('m-call-targets')"


def news(status: Status, summary: str) -> dict[str, object]:
    found = diagnosis(status=status, summary=f"Messy calls: {summary}", findings=(finding(),))
    return {"report": report(found), "reset": False}


async def looked_at(program: str, folder: str) -> None:
    mirror = Mirror()
    mirror.apply(update(), time.monotonic())
    async with (
        serving(mirror, WebSettings("127.0.0.1", (), False, folder)) as url,
        browser(program) as seen,
    ):
        await seen("Page.addScriptToEvaluateOnNewDocument", source=HASTE)
        await seen.dress(*PHONE)
        for path in ("/", "/target/m/relay", "/?span=30d"):
            await seen.go(url + path)
            await seen.until("document.querySelector('time')?.title")  # its script has run
            assert await seen.evaluate("getComputedStyle(document.body).marginTop") == "0px"
            assert await seen.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        assert await seen.evaluate("document.querySelectorAll('.strip rect').length") > 1

        # News comes by itself; what is open, focused and scrolled to stays.
        await seen.evaluate(
            f"{PROBED}.open = true; {PROBED}.querySelector('summary').focus(); scrollBy(0, 50);"
            " window.same = true; null"
        )
        assert await seen.evaluate(f"{CALL}.textContent") == "✕unreachable"
        mirror.apply(update(**news(Status.BLOCKED, SCRIPT)), time.monotonic())
        await seen.until(f"{CALL}.classList.contains('blocked')")
        assert await seen.evaluate(f"{CALL}.textContent") == "✕blocked"
        assert await seen.evaluate("document.title") == "Messy calls: no · callpath · babadede"
        assert await seen.evaluate("document.getElementById('news').textContent") == (
            "Messy, calls: now blocked."
        )
        assert SCRIPT in await seen.evaluate("document.querySelector('.sentence').textContent")
        assert await seen.evaluate(f"window.same && {PROBED}.open")
        assert await seen.evaluate(f"document.activeElement === {PROBED}.firstElementChild")
        assert await seen.evaluate("scrollY") > 0
        assert await seen.evaluate("document.querySelectorAll('.finding').length") == 1
        mirror.apply(update(**news(Status.OK, "fine.")), time.monotonic())
        await seen.until(f"{CALL}.classList.contains('ok')")
        assert await seen.evaluate("document.getElementById('lost').hidden")
        assert seen.complaints == []

        # Another page of this browser can neither read it nor have it in a frame.
        await seen.go("data:text/html,<title>evil</title>")
        for way in ("cors", "no-cors"):
            asked = f"fetch('{url}/', {{mode: '{way}'}}).then(() => 'got it', () => 'refused')"
            assert await seen.evaluate(asked) == "refused"


WIDER = """(() => {
const right = one => one.getBoundingClientRect().right;
return [...document.querySelectorAll('.top *, .tile *, .channel > header *')]
  .filter(one => right(one) > right(one.closest('.top, .tile, header')) + 1)
  .map(one => one.textContent);
})()"""
"""What reaches out of its place."""


async def long_words(program: str) -> None:
    """The longest that there are stay in their places on the smallest screen and on a wide one."""
    longest = max(Mechanism, key=len)
    named = replace(finding(), mechanism=longest, certainty=Certainty.CONFIRMED)
    channels = [
        diagnosis(channel=c, intermittent=True, findings=(named,))
        for c in ("call", "chat", "media")
    ]
    mirror = Mirror()
    agent = agent_figures(name="W" * 63, network="hosting")
    mirror.apply(update(report=report(*channels), agent=agent), time.monotonic())
    async with (
        serving(mirror, WebSettings("127.0.0.1", (), False)) as url,
        browser(program) as seen,
    ):
        for width in (320, 1200):
            await seen.dress(width, 800)
            for path in ("/", "/target/m/relay"):
                await seen.go(url + path)
                assert await seen.evaluate("document.documentElement.scrollWidth") <= width
                assert await seen.evaluate(WIDER) == []


async def left_alone(program: str) -> None:
    """An agent that is gone is told as gone."""
    mirror = Mirror()
    mirror.apply(update(), time.monotonic())
    async with browser(program) as seen:
        await seen("Page.addScriptToEvaluateOnNewDocument", source=HASTE)
        async with serving(mirror, WebSettings("127.0.0.1", (), False)) as url:
            await seen.go(url)
            assert await seen.evaluate("document.getElementById('lost').hidden")
        await seen.until("!document.getElementById('lost').hidden")
        said = await seen.evaluate("document.getElementById('lost').textContent")
        assert said.startswith("callpath does not answer since")


def test_in_a_real_browser(tmp_path):
    program = need("chromium")
    written = Written(tmp_path / "s")
    now = time.time()
    written.span(now - 86400.0 * 20, now)
    written.change(now - 86400.0 * 10, "blocked", "ip_drop", certainty="confirmed")
    written.change(now - 86400.0 * 9, "ok")
    written.db.close()

    async def scenario() -> None:
        await looked_at(program, str(written.folder))
        await long_words(program)
        await left_alone(program)

    in_namespace(scenario)
