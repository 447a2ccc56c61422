"""Publishing: names of this host's containers, learnt from the engine and written into the store."""
