"""DNS resolver: a name table fed from the store, and UDP and TCP servers that answer from it."""
