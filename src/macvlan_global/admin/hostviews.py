"""What the admin socket answers about the hosts of the cluster."""

from typing import TYPE_CHECKING

from macvlan_global.admin import messages as a
from macvlan_global.errors import Invalid

if TYPE_CHECKING:  # a host alone does not load what only a cluster needs
    from macvlan_global.cluster.host_list import HostLine
    from macvlan_global.cluster.reclaimer import Reclaimer


async def list_hosts(reclaimer: "Reclaimer | None", own: str) -> list[a.HostView]:
    """Every host of the cluster, by name; `own` is the id of this one.

    Raises:
        Invalid: this driver runs in local scope.
        Unavailable: the store cannot be reached.
    """
    return [_host_view(line, own) for line in await _need(reclaimer).roster()]


async def remove_host(reclaimer: "Reclaimer | None", name: str, *, force: bool) -> a.HostRemovalView:
    """Give back what a host held that is gone for good; see `Reclaimer.remove`.

    Raises:
        Invalid: this driver runs in local scope.
        NotFound: no such host.
        Conflict: it is alive, or several are meant.
        Unavailable: the store cannot be reached.
    """
    removal = await _need(reclaimer).remove(name, force=force)
    outcome = removal.outcome
    return a.HostRemovalView(
        id=removal.host.id,
        name=removal.host.name,
        removed=removal.forgotten,
        given_back=[each.address for each in outcome.given],
        kept=[a.KeptAddressView(address=each.record.address, reason=each.reason) for each in outcome.kept],
        names=outcome.names,
        pools=outcome.pools,
    )


def _need(reclaimer: "Reclaimer | None") -> "Reclaimer":
    if reclaimer is None:
        raise Invalid(
            "this driver runs in local scope and knows no other hosts; hosts are those that share a cluster store "
            "(store = consul://... or etcd://... in the configuration)"
        )
    return reclaimer


def _host_view(line: "HostLine", own: str) -> a.HostView:
    record = line.record
    return a.HostView(
        id=record.id,
        name=record.name,
        state="up" if line.live else "down",
        this=record.id == own,
        version=record.version,
        engine=record.engine,
        seen=record.seen,
        networks=record.networks,
        endpoints=record.endpoints,
        addresses=line.addresses,
    )
