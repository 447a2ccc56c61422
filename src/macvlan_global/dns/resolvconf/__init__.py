"""The resolver in the host's /etc/resolv.conf: install it, remove it, and query it."""
