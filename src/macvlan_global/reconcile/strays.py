"""Container links on the host without an endpoint of this driver: since when they are seen, and what the engine has.

Another driver on this host (a managed plugin beside a service) has its own, which are there between its answer to Join
and the engine's move into the container. The engine knows their endpoints.
"""

import logging
from dataclasses import replace

from macvlan_global.engine.ports import Engine
from macvlan_global.errors import Unavailable
from macvlan_global.kernel.names import link_name
from macvlan_global.reconcile.plan import ReconcileFacts, without_endpoint

log = logging.getLogger(__name__)


class Strays:
    """Memory of the links without an endpoint, from one look at the host to the next."""

    def __init__(self) -> None:
        """Begin with none seen."""
        self._since: dict[tuple[str, int], float] = {}  # by name and index

    async def learn(self, facts: ReconcileFacts, engine: Engine | None) -> ReconcileFacts:
        """Facts with what is known of such links. The engine is asked only if there are some, and after they were seen:
        it has an endpoint before its driver makes the link."""
        found = {(each.name, each.index) for each in without_endpoint(facts)}
        self._since = {each: self._since.get(each, facts.now) for each in found}
        if not found or engine is None or facts.engine is None:
            return facts
        try:
            ids = await engine.endpoint_ids()
        except Unavailable as error:
            log.info("repair leaves links without an endpoint alone: %s", error)
            return facts
        since = {name: at for (name, _), at in self._since.items()}
        return replace(facts, engine_links=frozenset(map(link_name, ids)), stray_since=since)
