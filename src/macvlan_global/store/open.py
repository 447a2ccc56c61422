"""From `--store` to a store."""

from pathlib import Path

from macvlan_global.errors import Invalid
from macvlan_global.store.access import NO_ACCESS, StoreAccess, check_access, is_cluster, parse_store_url, tls_context
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import ClusterStore, Store
from macvlan_global.store.sqlite import open_sqlite
from macvlan_global.store.state_folder import state_file
from macvlan_global.tasks import Crowd

__all__ = ["NO_ACCESS", "StoreAccess", "is_cluster", "open_cluster_store", "open_store"]

KINDS = (
    "sqlite (the default), sqlite:///PATH or memory:, or for several hosts consul://HOST:PORT or etcd://HOST:PORT "
    "(consul+https://, etcd+https:// with TLS)"
)


def check_own_store(url: str) -> None:
    """Check that `url` names a store of this host alone.

    Raises:
        Invalid: no such kind of store.
    """
    if url not in {"", "sqlite", "sqlite:", "memory:"} and not url.startswith("sqlite:///"):
        raise Invalid(f"--store {url.partition('://')[0]!r} is not a kind of store; use {KINDS}")


def check_cluster_store(url: str, access: StoreAccess) -> None:
    """Check a cluster store's URL and credentials as `open_cluster_store` does. Nothing is opened, nobody is asked.

    Raises:
        Invalid: no such kind of store, what `access` has does not fit it, or a file of it cannot be used.
    """
    parsed = parse_store_url(url)
    check_access(parsed, access)
    if parsed.tls:
        tls_context(access)


def open_store(url: str, state_dir: Path) -> Store:
    """Open the store on this host that `url` names; "sqlite" is the file state.db in the state folder.

    Raises:
        Invalid: no such kind of store.
        Unavailable: it cannot be opened.
    """
    check_own_store(url)
    file = state_file(url, state_dir)
    return open_sqlite(file) if file else MemoryStore()


def open_cluster_store(url: str, access: StoreAccess = NO_ACCESS, crowd: Crowd | None = None) -> ClusterStore:
    """Know the cluster store that `url` names. Nothing is asked yet: it may be away and come later. `crowd` are the
    hosts that use it, as far as they are known.

    `consul://HOST:PORT,HOST:PORT/PREFIX`, `etcd://…`, or with `+https`; `memory:` is one that nobody shares.

    Raises:
        Invalid: no such kind of store, or what `access` has does not fit it.
    """
    if url == "memory:":
        return MemoryStore()
    parsed = parse_store_url(url)
    check_access(parsed, access)
    # imported here: a driver has one of them or none, and its start is not to pay for the others
    if parsed.kind == "consul":
        from macvlan_global.store.remote.consul import ConsulStore  # noqa: PLC0415

        return ConsulStore(parsed, access, crowd=crowd)
    from macvlan_global.store.remote.etcd import EtcdStore  # noqa: PLC0415

    return EtcdStore(parsed, access, crowd=crowd)
