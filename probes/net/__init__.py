"""The door to the network: sockets, names, TLS, HTTP. Nothing else in the agent opens a socket."""
