"""Says what to ask: schema, loader and the shipped catalogue."""

CATALOGUE_VERSION = "2026.11.28"
"""The date of the shipped messenger, controls and calibration files, as ``YYYY.MM.DD``."""
DEFAULT_LISTEN = "127.0.0.1:22550"
"""``web.listen`` where no file says another."""
