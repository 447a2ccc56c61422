"""Requests of a simulation's users: networks that are small or share subnets, and addresses that others want too."""

import random
from dataclasses import dataclass

from macvlan_global.subnets import from_number, parse_subnet
from testkit.fake_engine import Subnet


@dataclass(frozen=True, slots=True)
class Habits:
    """Habits of users: how often they do each thing.

    `start` to `reconnect` are bounds of a number drawn from 0 to 1, in this order: below the first a container starts,
    then one ends, one that ended is taken down once more, a network is made, the engine's events are interrupted; above
    them a host is repaired. `wish` is how often a container wants addresses of its own choice. `paces` are mean seconds
    from one of these to the next, of which a schedule has one; it goes on so much `longer`. `risk` is how likely each
    kind of fault is to happen at all. In a `crowd`, everybody wants one of few addresses.
    """

    start: float = 0.5
    end: float = 0.75
    again: float = 0.8
    make: float = 0.85
    reconnect: float = 0.95
    wish: float = 0.3
    paces: tuple[float, ...] = (0.1, 1.0, 5.0)
    longer: int = 1
    risk: float = 0.4
    crowd: bool = False


CROWD = Habits(
    start=0.4,
    end=0.7,
    again=0.92,
    make=0.93,
    reconnect=0.97,
    wish=0.6,
    paces=(0.1, 0.5),
    longer=2,
    risk=0.15,
    crowd=True,
)


def draw_habits(lot: random.Random) -> Habits:
    """Those of the users of one schedule."""
    return CROWD if lot.random() < 0.3 else Habits()


def draw_subnets(lot: random.Random, habits: Habits, number: int, base: str) -> list[Subnet]:
    """The subnets of network `number`: one in `base` (three bytes of an address), and sometimes an IPv6 one. Those of
    several networks with one base overlap, and have gateways and aux addresses in common."""
    kinds = (
        Subnet(f"{base}.0/29", gateway=f"{base}.1"),
        Subnet(f"{base}.0/29", gateway=f"{base}.6", aux={"router": f"{base}.2"}),
        Subnet(f"{base}.0/24", f"{base}.64/29", gateway=f"{base}.1"),
        Subnet(f"{base}.0/24", gateway=f"{base}.1"),
        Subnet(f"{base}.0/24", f"{base}.0/29", gateway=f"{base}.1", aux={"router": f"{base}.6"}),
        Subnet(f"{base}.0/28", gateway=f"{base}.1", aux={"router": f"{base}.2"}),
    )
    subnets = [lot.choice((*kinds[:2], *kinds[4:]) if habits.crowd else kinds)]
    if lot.random() < 0.3:
        subnets.append(Subnet(f"fd00:{number}::/125", gateway=f"fd00:{number}::1"))
    return subnets


def draw_address(lot: random.Random, habits: Habits, subnet: str) -> str:
    """An address near the beginning of a subnet, so that others want it too; "" for no subnet."""
    if not subnet:
        return ""
    parsed = parse_subnet(subnet, "subnet")
    offset = lot.randrange(3, 6) if habits.crowd else lot.randrange(8)
    return str(from_number(int(parsed.network_address) + offset, parsed))
