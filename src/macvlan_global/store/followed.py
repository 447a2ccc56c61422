"""Followed groups: the keys of the cluster store whose changes hosts follow together. Pure.

A host watches a group as a whole: the names on one network, the definitions of all. A store whose own watch is dear can
keep count of the changes of each group. What is in no group is changed by leases, or nobody but the page watches it.
"""

_GROUPS = {
    "names/": True,
    "definitions/": False,
    "removed/": False,
    "avoided/static/": False,
    "avoided/names/": True,
    "avoided/hosts/": False,
}
"""Beginnings of keys, and whether the next part of the key says which group it is: that of one network."""


def group_of(key: str) -> str:
    """The group of a key, which is the prefix of all its keys and ends with a slash; "" if it is in none."""
    for beginning, by_network in _GROUPS.items():
        if key.startswith(beginning):
            if not by_network:
                return beginning if len(key) > len(beginning) else ""
            end = key.find("/", len(beginning)) + 1
            return key[:end] if len(beginning) + 1 < end < len(key) else ""
    return ""


def is_group(prefix: str) -> bool:
    """Whether a prefix is that of a group: no more and no less."""
    return bool(prefix) and group_of(f"{prefix}x") == prefix


def ends_with_network(group: str) -> bool:
    """Whether a group is that of one network, and so has an end."""
    return any(by_network and group.startswith(beginning) for beginning, by_network in _GROUPS.items())
