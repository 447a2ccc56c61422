"""The configuration file of the package: every key with its description and default, all of them comments. Pure."""

from collections.abc import Iterator

from packages.reference import Source

_HEAD = """\
# Configuration of macvlan-global: macvlan-global-config(5). No key is needed; what follows are the defaults.
# After a change: systemctl restart macvlan-global. `macvlan-global doctor` checks this file.
"""
_TAIL = """
# names for lists of parents on this host
#[parents]
#uplink = "bond0, eth1"

# subnets for networks created without --subnet
#[[auto_pools]]
#base = "10.80.0.0/12"
#size = 24

# credentials for a cluster store: paths of files, no secrets
#[store_access]
"""


def text(source: Source) -> str:
    """The file. With every `#` before a key taken away it is valid as well, and sets the same."""
    return _HEAD + "".join(_lines(source)) + _TAIL + "".join(f'#{name} = ""\n' for name in source.store_access)


def _lines(source: Source) -> Iterator[str]:
    for key in source.keys:
        yield f"\n# {key.text}\n#{key.name} = {key.default}\n"
