"""The page's application behind a real server on loopback, in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from exporters.feed import ReloadAnswer
from exporters.mirror import Mirror
from exporters.web import WebSettings, application


async def _reload() -> ReloadAnswer:
    return ReloadAnswer(())


@asynccontextmanager
async def serving(mirror: Mirror, settings: WebSettings) -> AsyncIterator[str]:
    """Its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        app = application(mirror, settings, _reload, None)  # type: ignore[arg-type] # not asked
        server = uvicorn.Server(
            uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
        )
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined,method-assign]
        task = asyncio.create_task(server._serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            await task
