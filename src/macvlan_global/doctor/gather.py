"""Gathers the facts. Nothing is changed by it, nothing is loaded and nothing started."""

import contextlib
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from macvlan_global.admin.client import AdminClient
from macvlan_global.admin.messages import Status
from macvlan_global.config import DEFAULT_FILE, FLAGS, Config, load_access, load_config
from macvlan_global.dns.address import read_address
from macvlan_global.dns.resolvconf.network_manager import replacement_warning
from macvlan_global.dns.resolvconf.text import find_block, nameservers, owner_warning
from macvlan_global.doctor import kernel
from macvlan_global.doctor.engine import ask_engine
from macvlan_global.doctor.facts import (
    ClusterFacts,
    DoctorFacts,
    DriverFacts,
    EngineFacts,
    NetworkFacts,
    PluginFacts,
    ProcessFacts,
    SocketFacts,
    StateFacts,
)
from macvlan_global.doctor.host_access import is_shim, is_unreached
from macvlan_global.doctor.network_managers import read_managers
from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.store.access import is_cluster
from macvlan_global.store.open import check_cluster_store, check_own_store
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import EndpointRecord, LinkRecord, NetworkRecord
from macvlan_global.store.sqlite import read_sqlite
from macvlan_global.store.validate import VERSION, version_of

PATIENCE_SECONDS = 10.0
SPEC_FOLDERS = ("etc/docker/plugins", "usr/lib/docker/plugins")
CAP_NET_RAW = 13  # linux/capability.h
SYSTEMD = "run/systemd/system"  # sd_booted(3)
UNITS = ("etc/systemd/system/macvlan-global.service", "usr/lib/systemd/system/macvlan-global.service")
"""The unit of `macvlan-global install`, and that of the package."""


def gather(
    config_file: Path | None,
    admin_socket: str | None,
    environment: Mapping[str, str],
    root: Path,
    *,
    running: Config | None = None,
    outdated: Sequence[Path] = (),
) -> DoctorFacts:
    """Everything there is to know about this host. `root` is / but in tests; it never raises.

    `running` is the configuration of the driver, if it is the driver that asks. `outdated` are files of the service
    that `macvlan-global install` would write otherwise.
    """
    config, problem = (running, "") if running else _config(config_file, environment, {})
    engine, swarm = ask_engine(config.docker_host)
    plugin = _plugin_asked(engine, admin_socket, config)
    socket = plugin.admin_socket if plugin else admin_socket or config.admin_socket
    status, driver = _driver(socket, root, managed=plugin is not None)
    state, entries = _state(_of_plugin(config, engine, plugin) if plugin else config)
    made, links = _made(entries), kernel.read_links(root)
    if status and not running:
        environment = kernel.read_environment(root, status.pid) or environment
        flags = kernel.read_flags(root, status.pid)
        config_file = config_file or (None if plugin else _file_of(root, status.pid, flags))
        config, problem = _config(config_file, environment, flags)
    driver = replace(driver, outdated=tuple(map(str, outdated)))
    if not running:
        problem = problem or _why_no_start(config, environment, engine.scope)
        driver = replace(driver, configured_store="" if plugin or problem else _store(config, engine.scope))
    networks = tuple(_networks(entries, made, kernel.read_boot(root), host_access=config.host_access))
    return DoctorFacts(
        process=_process(status, root),
        kernel=kernel.read_kernel(root),
        platform=kernel.read_platform(root),
        engine=engine,
        socket=_socket(status.socket if status else config.socket),
        driver=driver,
        state=state,
        config=_where(config_file),
        config_problem=problem,
        networks=networks,
        cluster=_cluster(status, root),
        swarm=swarm,
        links=links,
        managers=read_managers(root, [*made.items(), *((each, "macvlan") for each in links if is_shim(each))]),
        filters=kernel.read_filters(root) if any(each.host_access for each in networks) else (),
        access_addresses=tuple(map(str, config.access_addresses())),
        conflicts=(*status.watch.conflicts, *status.watch.problems) if status and status.watch else (),
    )


def _plugin_asked(engine: EngineFacts, admin_socket: str | None, config: Config) -> PluginFacts | None:
    """The managed plugin, if it is the driver that is looked at: no service is here, or its socket was named."""
    plugin = engine.plugin
    if plugin is None:
        return None
    named = admin_socket or (config.admin_socket if kernel.is_there(Path(config.admin_socket)) else plugin.admin_socket)
    return plugin if named == plugin.admin_socket else None


def _of_plugin(config: Config, engine: EngineFacts, plugin: PluginFacts) -> Config:
    """The configuration, with the plugin's state where it is on this host: a plugin has a mount of its own for it."""
    state = f"{engine.folder}/plugins/{plugin.id}/propagated-mount"
    return msgspec.structs.replace(config, store="sqlite", state_dir=state)


def _config(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, str]) -> tuple[Config, str]:
    try:
        return load_config(file, environment, {key: value for key, value in flags.items() if key in FLAGS}), ""
    except MacvlanGlobalError as error:
        return Config(), str(error)


def _file_of(root: Path, pid: int, flags: Mapping[str, str]) -> Path | None:
    """The configuration file that a process names in its flags, None if it names none."""
    return root / f"proc/{pid}/cwd" / flags["config"] if "config" in flags else None


def _why_no_start(config: Config, environment: Mapping[str, str], label: str) -> str:
    """The error with which the driver does not start with this configuration, "" if it starts. `label` is the scope
    that the engine's labels ask for. Nothing is opened, and nobody is asked.

    A secret that only root can read is not known to be wrong.
    """
    config = _scoped(config, label)
    try:
        check_own_store("sqlite" if is_cluster(config.store) else config.store)
        if config.is_shared():
            check_cluster_store(config.store, load_access(config.store_access, environment))
            if config.dns:
                read_address(config.dns)
    except MacvlanGlobalError as error:
        return "" if isinstance(error.__cause__, PermissionError) and os.geteuid() != 0 else str(error)
    return ""


def _store(config: Config, label: str) -> str:
    """The store of a configuration, used or not, as `Status` has it."""
    config = _scoped(config, label)
    return config.unused_store() or config.store


def _scoped(config: Config, label: str) -> Config:
    return msgspec.structs.replace(config, scope=config.scope or label)


def _where(file: Path | None) -> str:
    path = file or DEFAULT_FILE
    return f"{path} is valid" if kernel.is_there(path) else f"there is no {path}; the defaults apply"


def _driver(admin_socket: str, root: Path, *, managed: bool) -> tuple[Status | None, DriverFacts]:
    status, problem, cause = None, "", None
    try:
        client = AdminClient(admin_socket, timeout=PATIENCE_SECONDS)
        status = client.status()
        if status.engine:
            client.networks()  # the driver learns the networks' names by it, which the state has then
    except MacvlanGlobalError as error:
        problem, cause = str(error).partition("; start it")[0], error.__cause__
    specs = [root / folder / f"macvlan-global.{end}" for folder in SPEC_FOLDERS for end in ("spec", "json")]
    return status, DriverFacts(
        problem=problem,
        silent=isinstance(cause, TimeoutError),
        closed=isinstance(cause, PermissionError) and os.geteuid() != 0,
        version=status.version if status else "",
        engine_problem=status.engine_problem if status else "",
        processes=kernel.find_drivers(root),
        spec_files=tuple(str(each) for each in specs if kernel.is_there(each)),
        unit=any(kernel.is_there(root / each) for each in UNITS) if kernel.is_there(root / SYSTEMD) else None,
        managed=managed,
        unreached=tuple(filter(is_unreached, status.problems)) if status else (),
        # in a swarm it is the managers that give out addresses, and no two hosts the same one
        unused_store=status.unused_store if status and status.scope == "local" else "",
        store=(status.unused_store or status.store) if status else "",
        alone=status is not None and status.scope == "global" and not is_cluster(status.store),
    )


def _cluster(status: Status | None, root: Path) -> ClusterFacts | None:
    if status is None or not is_cluster(status.store) or status.scope != "global":
        return None
    try:
        text = (root / "etc/resolv.conf").read_text(errors="replace")
    except OSError:
        text = ""
    block = find_block(text)
    rights = kernel.read_capabilities(root, status.pid)
    in_conflict = status.watch.conflicts if status.watch else ()
    return ClusterFacts(
        store=status.store,
        store_problem=status.store_problem,
        waiting=status.waiting,
        problems=tuple(each for each in status.problems if not is_unreached(each) and each not in in_conflict),
        hosts=tuple(status.hosts),
        resolver=status.resolver.address if status.resolver else "",
        resolver_problem=status.resolver.problem if status.resolver else "",
        nameservers=tuple(nameservers(text)),
        resolv_conf_owner=owner_warning(text) or (replacement_warning(root) if block and block.link else ""),
        may_probe=rights is None or bool(rights >> CAP_NET_RAW & 1),
    )


def _process(status: Status | None, root: Path) -> ProcessFacts:
    if status and (effective := kernel.read_capabilities(root, status.pid)) is not None:
        return ProcessFacts("the driver", status.pid, effective)
    # without a driver, or with one whose processes cannot be seen from here
    return ProcessFacts("this command", os.getpid(), kernel.read_capabilities(root, os.getpid()) or 0)


def _socket(path: str) -> SocketFacts:
    try:
        found = Path(path).stat()
    except OSError:
        return SocketFacts(path)
    return SocketFacts(path, True, stat.S_ISSOCK(found.st_mode), stat.S_IMODE(found.st_mode), found.st_uid)


def _state(config: Config) -> tuple[StateFacts, list[Entry]]:
    path = config.state_file()
    if path is None:
        return StateFacts("(in memory)"), []
    try:
        size = path.stat().st_size if path.exists() else None
    except OSError as error:
        return StateFacts(str(path), problem=f"{path} cannot be read: {error.strerror}"), []
    if size is None:
        return StateFacts(str(path)), []
    try:
        entries = read_sqlite(path)
    except MacvlanGlobalError as error:
        return StateFacts(str(path), True, str(error), size), []
    foreign = tuple(each.key for each in entries if version_of(each.value) > VERSION)
    return StateFacts(str(path), True, "", size, shutil.disk_usage(path.parent).free, foreign), entries


def _made(entries: list[Entry]) -> dict[str, str]:
    """Kinds (vlan, dummy) of the links that the driver made, by name."""
    found: dict[str, str] = {}
    for entry in entries:
        if entry.key.startswith("links/") and version_of(entry.value) <= VERSION:
            with contextlib.suppress(msgspec.DecodeError):
                record = msgspec.json.decode(entry.value, type=LinkRecord)
                found[record.name] = record.kind
    return found


def _running(entries: list[Entry], boot: str) -> dict[str, list[str]]:
    """Addresses of containers that run, by the id of their network."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry.key.startswith("endpoints/") and version_of(entry.value) <= VERSION:
            with contextlib.suppress(msgspec.DecodeError):
                record = msgspec.json.decode(entry.value, type=EndpointRecord)
                if record.is_live and record.sandbox and record.boot == boot:
                    found.setdefault(record.network, []).extend(str(each) for each in record.addresses)
    return found


def _networks(entries: list[Entry], made: Mapping[str, str], boot: str, *, host_access: bool) -> list[NetworkFacts]:
    found, running = [], _running(entries, boot)
    for entry in entries:
        if not entry.key.startswith("networks/") or version_of(entry.value) > VERSION:
            continue
        try:
            record = msgspec.json.decode(entry.value, type=NetworkRecord)
        except msgspec.DecodeError:  # a record that cannot be read is the driver's to report, by its key
            continue
        found.append(
            NetworkFacts(
                name=record.shown,
                parent=record.parent,
                mtu=record.options.mtu,
                ipv6=any(":" in each.subnet for each in record.subnets),
                subnets=tuple((each.space, each.subnet) for each in record.subnets),
                gateway=_has_gateway(record, made),
                host_access=record.options.wants_host_access(default=host_access),
                running=tuple(running.get(record.id, ())),
            )
        )
    return found


def _has_gateway(record: NetworkRecord, made: Mapping[str, str]) -> bool:
    """Whether containers get an IPv4 default route by this network, or are not meant to: it is internal, isolated on a
    dummy, or without IPv4. IPv6 routers announce themselves."""
    meant = not record.internal and made.get(record.parent) != "dummy"
    four = [each for each in record.subnets if "." in each.subnet and each.subnet != "0.0.0.0/0"]
    return not meant or not four or any(each.gateway for each in four)
