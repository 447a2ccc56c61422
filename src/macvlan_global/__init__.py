"""A macvlan network that is created once and exists on every Docker host, each with its own parent."""

__version__ = "0.1.0"
