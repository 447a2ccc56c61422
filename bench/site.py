"""A host with the newest engine, the driver and networks of both kinds, for what is measured through Docker."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lab import Host, Wire
from lab.cluster_site import ClusterSite, StoreKind
from lab.driver import Driver

OURS, DIRECT, BUILT_IN, HOME = "ours", "direct", "builtin", "home"
YARDSTICK = "built-in macvlan"
NONE, HOST, BRIDGE = "none", "host", "bridged"
ENGINE_ALONE = {NONE: "no network", HOST: "the host's network", BRIDGE: "a bridge of Docker's"}
"""Costs of the engine itself: networks without a driver of macvlan links, and their words. Its bridge has no packet
filter here."""


@contextmanager
def site(name: str, store: StoreKind | None = None) -> Iterator[Host]:
    """The host, with networks `OURS`, `DIRECT` and `BUILT_IN`, and a built-in one more, `HOME`, each on a parent of
    its own.

    With `store`, it is a host of a cluster with one member of such a store.
    """
    with ExitStack() as stack:
        if store:
            cluster = stack.enter_context(ClusterSite(store=store))
            wire, host = cluster.wire, cluster.machine()
            driver = cluster.driver(host, "--log-level=info")
        else:
            wire, host = stack.enter_context(Wire()), stack.enter_context(Host(name))
            driver = Driver(host, "--log-level=info")
        driver.start()
        stack.callback(driver.stop)
        host.start_engine("newest")
        ours = ("macvlan-global", "--ipam-driver=macvlan-global")
        kinds = {OURS: ours, DIRECT: (*ours, "-oattach=direct"), BUILT_IN: ("macvlan",), HOME: ("macvlan",)}
        for number, (network, kind) in enumerate(kinds.items(), 1):
            parent, subnet = f"eth{number}", f"10.{64 + number}.0.0/16"
            if not (store and parent == "eth1"):  # a cluster's machines have that
                wire.plug(host, parent)
            host.docker("network", "create", "-d", *kind, f"--subnet={subnet}", f"-oparent={parent}", network)
        host.docker("network", "create", "-d", "bridge", "--subnet=10.70.0.0/16", BRIDGE)
        yield host
