"""Pictures of the page, healthy, in August 2025 and offline, wide and on a phone, light and dark:
``python -m tests.pages.screenshots DIR [PART OF A NAME]``, as root, with Debian's chromium, in a
network namespace of its own."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from exporters.web import WebSettings
from tests.pages.browser import Browser, browser
from tests.pages.scenes import SCENES, Scene, scene
from tests.pages.serving import serving
from tests.probes.programs import in_namespace, need

WIDE, PHONE = (1200, 900), (390, 844)
TALLEST = 1050
"""Pixels of a picture."""
PAGES = {
    "": "/",
    "-week": "/?span=7d",
    "-month": "/?span=30d",
    "-target": "/target/telegram/call-eu-1",
    "-stream": "/target/telegram/media-call-eu-1",
}


async def take(scenes: dict[str, Scene], folder: Path, only: str) -> None:
    async with browser(need("chromium")) as seen:
        for name, shown in scenes.items():
            with mock.patch("exporters.webpage.time") as clock:
                clock.time.return_value = shown.now
                clock.monotonic.return_value = shown.mirror.heard
                settings = WebSettings("127.0.0.1", (), False, str(shown.folder))
                async with serving(shown.mirror, settings) as url:
                    await take_one(seen, name, url, folder, only)


async def take_one(seen: Browser, name: str, url: str, folder: Path, only: str) -> None:
    for page, path in PAGES.items():
        for size, (width, height) in {"wide": WIDE, "phone": PHONE}.items():
            for dark in (False, True):
                file = f"{name}{page}-{size}{'-dark' if dark else ''}.png"
                if only and only not in file:
                    continue
                await seen.dress(width, height, dark=dark)
                await seen.go(url + path)
                whole = await seen.evaluate("document.documentElement.scrollHeight")
                await seen.dress(width, min(whole, TALLEST), dark=dark)
                (folder / file).write_bytes(await seen.picture())
                wider = await seen.evaluate("document.documentElement.scrollWidth")
                print(file, "" if wider <= width else f"too wide: {wider}")
    assert seen.complaints == []


def main() -> None:
    folder = Path(sys.argv[1])
    only = sys.argv[2] if len(sys.argv) > 2 else ""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        scenes = {}
        for name in SCENES:
            if not only or only.partition("-")[0] in ("", name):
                began = time.monotonic()
                place = Path(made) / name
                place.mkdir()
                scenes[name] = scene(name, place)
                print(f"{name}: {time.monotonic() - began:.0f} s")
        in_namespace(lambda: take(scenes, folder, only))


if __name__ == "__main__":
    main()
