"""The resolver's place in the host's /etc/resolv.conf: installing it, removing it, and asking it."""
