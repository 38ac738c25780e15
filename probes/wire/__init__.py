"""Sans-io codecs: bytes in, values out. Time, randomness and sockets stay outside."""
