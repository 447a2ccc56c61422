"""Attaching: the macvlan interface of one container, made, advertised to its neighbours, and deleted."""
