"""Records that anybody may have written below the prefix of a shared store: keys and values of any bytes.

Some are noise, some are a record of ours with a field or two of another kind, some are whole. Names, ids and subnets in
them are nobody's: whole ones may change nothing for the hosts that are there.
"""

import json
import random
from collections.abc import Iterator
from typing import Any

from macvlan_global.store.address_keys import padded

SHARED = ("pools", "addresses", "definitions", "removed", "names", "hosts", "alive")
LOCAL = ("networks", "endpoints", "links", "pending")
"""Prefixes of the tables in a cluster's store, and of those on a host's disk."""
NETWORKS = ("definitions", "networks")

_TEXTS = (
    *("", " ", ".", "..", "/", "a/b", "%", "%ff", "%2F", "\x00", "\n", "a\tb", "'; --", "é", "\U0001f600", "\ufffd"),
    *("x" * 300, "10.8.0.9", "::", "fe80::1%eth0", "0.0.0.0/0", "::/0", "300.1.1.1", "10.8.0.9/24", "01.2.3.4"),
    *("{}", "null", "NaN", "-1", "xn--", "a..b", "-a", "localhost", "eth0", "../../etc/passwd"),
)
_NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**30, 0.5, -0.0, 1e308, -1e308, 5e-324)
_OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"": ""}, [None], ["a"] * 300, {"a": {"a": {"a": {}}}})
_BODIES = (
    *(b"", b" ", b"0", b"[]", b"null", b"true", b'"text"', b"{", b"}", b"{}", b'{"v":2}', b'{"v":"2"}', b'{"v":-1}'),
    *(b'{"v":1e999}', b'{"v":' + b"9" * 400 + b"}", b'{"id":NaN}', b"[" * 20_000, b'{"a":' * 5_000, b"\xff\xfe"),
    *(b"\x00" * 64, b'{"v":1,"v":2}', b'{"name":"\\ud800"}', b'{"name":"\xff"}', b"\xef\xbb\xbf{}"),
)


class Junk:
    """An endless supply. The same seed gives the same records."""

    def __init__(self, seed: int) -> None:
        """Draw from `seed`."""
        self._lot = random.Random(seed)  # noqa: S311 - a test's lot

    def records(self, count: int, prefixes: tuple[str, ...] = SHARED) -> Iterator[tuple[bytes, bytes]]:
        """So many keys, each of them once, with their values. Every prefix gets as many."""
        seen: set[bytes] = set()
        while len(seen) < count:
            key, value = self._record(prefixes[len(seen) % len(prefixes)])
            if key not in seen:
                seen.add(key)
                yield key, value

    def _record(self, prefix: str) -> tuple[bytes, bytes]:
        fields, parts = self._whole(prefix)
        drawn = self._lot.random()
        if drawn < 0.15:
            value = self._lot.choice(_BODIES)
        elif drawn < 0.3:
            value = self._lot.randbytes(self._lot.randrange(200))
        else:
            if drawn < 0.95:
                self._spoil(fields)
            if prefix in NETWORKS and self._lot.random() < 0.997:  # engines make each one that is whole
                fields["id"] = self._lot.choice(_OTHERS)
            value = json.dumps(fields, ensure_ascii=self._lot.random() < 0.5).encode(errors="replace")
        if self._lot.random() < 0.0005:
            value += b" " * 100_000
        return self._key(prefix, parts), value

    def _spoil(self, fields: dict[str, Any]) -> None:
        if self._lot.random() < 0.1:
            fields["v"] = self._lot.choice((2, 3, 10**6))
            return
        for _ in range(self._lot.randint(1, 3)):
            key = self._lot.choice([each for each in fields if each != "host"])  # else it is of this host, or nobody's
            drawn = self._lot.random()
            if drawn < 0.1:
                fields.pop(key)
            elif drawn < 0.2:
                fields[self._lot.choice(_TEXTS)] = self._any()
            else:
                fields[key] = self._any()

    def _any(self) -> Any:
        return self._lot.choice(self._lot.choice((_TEXTS, _NUMBERS, _OTHERS)))

    def _key(self, prefix: str, parts: list[str]) -> bytes:
        drawn = self._lot.random()
        if drawn < 0.4:
            key = "/".join(each.replace("/", "_") for each in parts).encode()
        elif drawn < 0.7:
            key = "/".join(self._lot.choice(_TEXTS) for _ in range(self._lot.randint(1, 4))).encode()
            key += f"{self._lot.getrandbits(32):x}".encode() if self._lot.random() < 0.9 else b""
        else:
            key = self._lot.randbytes(self._lot.randint(1, 40))
        return f"{prefix}/".encode() + key

    def _whole(  # noqa: C901 - one case for each table
        self, prefix: str
    ) -> tuple[dict[str, Any], list[str]]:
        """The fields of a record of this table, and the parts of its key. Nothing in it is of a host that is there."""
        lot = self._lot
        one, two, host = (f"{lot.getrandbits(128):032x}" for _ in range(3))
        third, last = lot.randrange(65536), lot.randrange(1, 255)
        subnet = f"172.{16 + third // 4096}.{third % 256}.0/24"
        address = f"{subnet.removesuffix('.0/24')}.{last}"
        space, at = lot.choice(("macvlan-global", "other")), lot.choice((0.0, 1.7e9, 4e9, -5e8))
        fields: dict[str, Any]
        match prefix:
            case "pools":
                fields, parts = {"space": space, "subnet": subnet, "network": one}, [space, subnet]
            case "addresses":
                kind = lot.choice(("reserved", "gateway", "aux", "endpoint"))
                fields = {"subnet": subnet, "address": address, "kind": kind, "network": one, "endpoint": two}
                fields |= {"space": space, "incarnation": "x", "asked": bool(last % 2), "label": ""}
                parts = [space, padded(address)]
            case "definitions":
                fields, parts = {"id": one, "name": f"j{two[:8]}", "options": {"parent": "eth1"}}, [f"j{two[:8]}"]
                fields["subnets"] = [{"space": space, "subnet": subnet}]
            case "removed":
                fields, parts = {"id": one, "name": f"j{two[:8]}"}, [one]
            case "names":
                fields = {"network": one, "network_name": "n", "endpoint": two, "container": two, "mac": "02:00:00:0:1"}
                fields |= {"names": [f"j{two[:8]}"], "address": address, "address6": "", "ports": [{"port": 80}]}
                parts = [host, two]
            case "hosts":
                fields, parts = {"id": host, "name": host[:8], "version": "1", "seen": at, "networks": 1}, [host]
            case "alive":
                fields, parts = {"id": host, "name": host[:8], "boot": one, "incarnation": two}, [host]
            case "networks":
                fields = {"id": one, "options": {"parent": "eth1"}, "subnets": [{"space": space, "subnet": subnet}]}
                fields, parts = fields | {"name": f"j{two[:8]}", "parent": "eth1", "published": False}, [one]
            case "endpoints":
                fields = {"network": one, "id": two, "address": address, "mac": "02:00:00:00:00:01", "boot": "b"}
                fields, parts = fields | {"link": f"mg-{two[:8]}", "parent": "eth1", "sandbox": ""}, [one, two]
            case "links":
                fields, parts = {"name": f"eth1.{last}", "kind": "vlan", "master": "eth1", "vlan_id": last}, []
                parts = [f"eth1.{last}"]
            case _:
                fields, parts = {"kind": "release", "network": one, "space": space, "address": address}, [two]
        return {"v": 1, **fields, "host": host, "at": at}, parts
