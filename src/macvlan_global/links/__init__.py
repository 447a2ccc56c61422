"""Interfaces on this host: parents that we make and take away, and the names of links."""
