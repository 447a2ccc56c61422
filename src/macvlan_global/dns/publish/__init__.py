"""Publishing: the names of this host's containers, from the engine into the store."""
