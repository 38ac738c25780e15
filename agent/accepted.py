"""The newest signed catalogue that this agent ever used: an older one is somebody's replay."""

from __future__ import annotations

from agent.store import Store
from config.catalogue import Version, parse_version
from config.document import Document
from config.model import Config, ConfigError

_KEY = "catalogue"


def accept(config: Config, store: Store) -> None:
    """Remember an update that is taken into use. Raises ConfigError where an older catalogue would
    be in use than one before it, also when that is the shipped one because the update is older
    still, and for another file of the same version. Without an update the shipped one serves: the
    configuration says so, and that is no replay."""
    update = config.update
    if update is None and not config.superseded:
        return
    newest, sha256 = _newest(store)
    version = parse_version(config.catalogue)
    if newest is not None and version < newest:
        raise _refused(
            config,
            f"{config.superseded or version} is older than {newest}, which was in use before; who"
            " wants it all the same takes catalogue.file out, or removes the state folder",
        )
    if update is None:
        return
    if version == newest and update.sha256 != sha256:
        raise _refused(
            config, f"is not the {version} that was in use before; it needs a new number"
        )
    if version != newest:
        store.put(_KEY, f"{version} {update.sha256}".encode())


def _refused(config: Config, message: str) -> ConfigError:
    return ConfigError([Document(config.settings.catalogue.file).problem((), message)])


def _newest(store: Store) -> tuple[Version | None, str]:
    version, _, sha256 = (store.get(_KEY) or b"").decode(errors="replace").partition(" ")
    try:
        return parse_version(version), sha256
    except ValueError:  # nothing yet, or nothing that we wrote
        return None, ""
