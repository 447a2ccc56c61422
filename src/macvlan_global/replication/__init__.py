"""The cluster's networks on this host's engine: what is defined is made here, what was removed goes."""
