"""Asks and records: one file per probe, the vocabulary, the sockets and the codecs."""
