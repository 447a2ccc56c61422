"""The resolver: a table of names fed by the store, and the UDP and TCP servers that answer from it."""
