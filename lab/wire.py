"""A wire between hosts: a switch in a network namespace of its own.

The switch passes frames as they are, tagged ones too. Nothing of the machine's
own network is joined to it.
"""

import itertools
import os
from collections.abc import Iterable
from typing import Protocol, Self

from lab import leftovers
from lab.packages import ensure_system_packages
from lab.paths import PREFIX
from lab.process import run

_numbers = itertools.count(1)


class Plugged(Protocol):
    """A host as a wire needs it."""

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""


class Wire:
    """A switch that hosts are plugged into. Use as a context manager, or call `close`."""

    def __init__(self, *, mtu: int = 1500) -> None:
        """Make the switch.

        Args:
            mtu: of the switch, and of each end that does not say otherwise.
        """
        ensure_system_packages()
        self.namespace = f"{PREFIX}{os.getpid()}-wire{next(_numbers)}"
        self._mtu = mtu
        self._ports: dict[tuple[str, str], str] = {}
        run(["ip", "netns", "add", self.namespace])
        try:
            self._make_switch()
        except BaseException:
            self.close()
            raise

    def _make_switch(self) -> None:
        # Without a querier on the wire, snooping would lose neighbour discovery.
        self._ip(f"link add br0 mtu {self._mtu} type bridge mcast_snooping 0 stp_state 0", "link set br0 up")
        # Where br_netfilter is loaded, the switch must not filter what it passes;
        # the switch itself has no business with addresses.
        script = (
            "for f in iptables ip6tables arptables; do"
            " if [ -e /proc/sys/net/bridge/bridge-nf-call-$f ];"
            " then echo 0 > /proc/sys/net/bridge/bridge-nf-call-$f; fi; done;"
            "if [ -e /proc/sys/net/ipv6 ]; then echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; fi"
        )
        run(["nsenter", f"--net=/run/netns/{self.namespace}", "sh", "-c", script])

    def plug(self, host: Plugged, name: str = "eth1", *, mtu: int | None = None, addresses: Iterable[str] = ()) -> None:
        """Give `host` an interface on this wire, up.

        Args:
            host: may have many interfaces, on this wire or on others.
            name: of the interface on the host.
            mtu: of the interface; the wire's by default.
            addresses: with prefix length, for the interface.
        """
        port = f"p{len(self._ports)}"
        size = mtu or self._mtu
        self._ip(
            f"link add {port} mtu {size} type veth peer name {name} mtu {size} netns {host.namespace}",
            f"link set {port} master br0 up",
        )
        # nodad: an address is usable at once; nobody else is on the wire yet.
        given = [f"address add {address} dev {name}{' nodad' if ':' in address else ''}" for address in addresses]
        self._ip(f"link set {name} up", *given, namespace=host.namespace)
        self._ports[host.namespace, name] = port

    def cut(self, host: Plugged, name: str = "eth1") -> None:
        """Pull the plug: the host's interface has no carrier until `mend`."""
        self._ip(f"link set {self._ports[host.namespace, name]} down")

    def mend(self, host: Plugged, name: str = "eth1") -> None:
        """Put the plug back."""
        self._ip(f"link set {self._ports[host.namespace, name]} up")

    def close(self) -> None:
        """Remove the switch and with it the interfaces on the hosts. Repeatable."""
        leftovers.remove(self.namespace)

    def _ip(self, *lines: str, namespace: str = "") -> None:
        run(["ip", "-n", namespace or self.namespace, "-batch", "-"], stdin="\n".join(lines) + "\n")

    def __enter__(self) -> Self:
        """Nothing to do: the switch is there since it was made."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
