"""Views of the conflict watch for the admin socket."""

from macvlan_global.admin import messages as a
from macvlan_global.conflicts.ledger import AddressConflict
from macvlan_global.conflicts.service import ConflictService
from macvlan_global.errors import Invalid


def watch_view(service: ConflictService | None) -> a.WatchView | None:
    """The conflict watch in the status; None if it is off."""
    if service is None:
        return None
    parents = sorted(each.parent for each in service.watch.segments.values() if each.watched)
    return a.WatchView(parents=parents, conflicts=service.watch.problems(), problems=service.notices())


async def conflict_views(service: ConflictService | None) -> list[a.ConflictView]:
    """The latest conflicts, the one seen last at the end.

    Raises:
        Invalid: they are not watched for.
    """
    if service is None:
        raise Invalid(
            "conflicts are not watched for on this host; remove conflict_watch = false from the configuration"
        )
    found = service.watch.ledger.all()
    current = {each.key for each in service.watch.current()}
    vendors = await service.vendors.of({each.mac for each in found})
    return [_conflict_view(each, vendors[each.mac], current=each.key in current) for each in found]


def _conflict_view(conflict: AddressConflict, vendor: str, *, current: bool) -> a.ConflictView:
    holding = conflict.holding
    return a.ConflictView(
        address=str(holding.address),
        kind=holding.kind,
        holder=conflict.holder,
        container=holding.name if holding.kind == "container" else "",
        network=holding.network,
        host=holding.host,
        holder_mac=conflict.holder_mac,
        mac=conflict.mac,
        vendor=vendor,
        other=conflict.other,
        how=conflict.how,
        claimed=conflict.claimed,
        parent=conflict.parent,
        vlan=conflict.vlan,
        first=conflict.first,
        last=conflict.last,
        count=conflict.count,
        current=current,
    )
