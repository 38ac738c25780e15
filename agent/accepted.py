"""The newest signed catalogue that this agent ever used: an older one is somebody's replay."""

from __future__ import annotations

from agent.store import Store
from config.catalogue import Version, parse_version
from config.document import Document
from config.model import Config, ConfigError

_KEY = "catalogue"


def accept(config: Config, store: Store) -> None:
    """Remember an update that is taken into use. Raises ConfigError for one that is older than
    another one before it. Without an update the shipped catalogue serves: that is no replay."""
    if config.update is None:
        return
    newest, version = _newest(store), parse_version(config.catalogue)
    if newest is not None and version < newest:
        message = (
            f"{version} is older than {newest}, which was in use before; who wants it all the same"
            f" takes catalogue.file out, or removes the state folder"
        )
        raise ConfigError([Document(config.update.file).problem((), message)])
    if version != newest:
        store.put(_KEY, str(version).encode())


def _newest(store: Store) -> Version | None:
    try:
        return parse_version((store.get(_KEY) or b"").decode())
    except ValueError:  # nothing yet, or nothing that we wrote
        return None
