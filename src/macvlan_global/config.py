"""Configuration: defaults, then the file, then the environment, then the command line, as one frozen value."""

import difflib
import os
import socket
import tomllib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from macvlan_global.errors import Invalid
from macvlan_global.ipam.auto_pool import DEFAULT_AUTO_POOLS, AutoPool
from macvlan_global.store.access import StoreAccess, is_cluster
from macvlan_global.store.state_folder import state_file

DEFAULT_FILE = Path("/etc/macvlan-global/config.toml")
PLUGIN_ADMIN_SOCKET = "/run/macvlan-global/plugin.sock"
"""Admin socket of the managed plugin: a service may run beside it on a node of a swarm."""
ENVIRONMENT_PREFIX = "MACVLAN_GLOBAL_"
MOST_SECONDS = 2**31
SCOPE_LABELS = (
    "macvlan-global.scope",
    "com.docker.network.driver.macvlan",
    "com.docker.network.driver.macvlan.scope",
)


class AutoPoolConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[auto_pools]]`: subnets of prefix length `size` are cut from `base` when a network names none."""

    base: str
    size: int


class StoreAccessConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[store_access]`: how this host shows a cluster store who it is. Paths of files; secrets are in files of their
    own, or in the environment (`MACVLAN_GLOBAL_STORE_TOKEN`, `MACVLAN_GLOBAL_STORE_PASSWORD`), never in here."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    token_file: str = ""
    user: str = ""
    password_file: str = ""


def _flag(help_text: str) -> msgspec.Meta:
    """The description of a key that can be set by the environment and by a flag of `serve` too."""
    return msgspec.Meta(description=help_text)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of one driver: the one description of every key.

    Keys with a description can be set in the file, by a variable `MACVLAN_GLOBAL_KEY` and by a flag of `serve`, whose
    help is that description; the others in the file only. `scope` "" means what fits the store; `swarm` is for the
    managed plugin, where the engine's swarm mode shares networks and addresses. `driver_name` is the plugin's name in
    the engine, with its tag if it is a managed plugin. Listen addresses are `HOST:PORT`, "" for none. `repair_grace`,
    `host_grace` and `dns_ttl` are seconds.
    """

    scope: Annotated[Literal["", "local", "global", "swarm"], _flag("local or global; swarm in a managed plugin")] = ""
    store: Annotated[str, _flag("sqlite, consul://HOST:PORT,… or etcd://HOST:PORT,…")] = "sqlite"
    socket: Annotated[str, _flag("plugin socket that the engine calls")] = "/run/docker/plugins/macvlan-global.sock"
    admin_socket: Annotated[str, _flag("admin socket of the other commands")] = "/run/macvlan-global/admin.sock"
    state_dir: Annotated[str, _flag("folder of the state file")] = "/var/lib/macvlan-global"
    docker_host: Annotated[str, _flag("address of the engine's API")] = "unix:///var/run/docker.sock"
    driver_name: Annotated[str, _flag("name of this driver in the engine")] = "macvlan-global"
    host_name: Annotated[str, _flag("name of this host [its hostname]")] = ""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _flag("debug, info, warning or error")] = "info"
    log_format: Annotated[Literal["text", "json"], _flag("text or json")] = "text"
    metrics: Annotated[str, _flag("serve Prometheus metrics on HOST:PORT")] = ""
    page: Annotated[str, _flag("serve the page on HOST:PORT, as in 127.0.0.1:8153")] = ""
    repair_grace: Annotated[float, _flag("seconds before an unused reservation counts as abandoned")] = 60.0
    dns: Annotated[str, _flag("address of the resolver, HOST:PORT [127.0.0.153:53]")] = "127.0.0.153:53"
    dns_networks: Annotated[
        Literal["used", "all"], _flag("all: the resolver knows names on networks without containers here too [used]")
    ] = "used"
    dns_ttl: Annotated[int, _flag("TTL of its answers, in seconds")] = 5
    host_grace: Annotated[float, _flag("seconds before addresses of a dead host may be reclaimed")] = 600.0
    probe: Annotated[bool, _flag("true: probe for an address (ARP, NDP) before a container gets it")] = False
    attach: Annotated[
        Literal["plain", "direct"], _flag("attach mode: plain, or direct (links made inside containers) [plain]")
    ] = "plain"
    host_access: Annotated[
        bool, _flag("true: the host and its containers reach each other, on networks that do not say")
    ] = False
    host_access_addresses: Annotated[
        str, _flag("ADDRESS,…: addresses of this host for host_access, in subnets where it needs one of its own")
    ] = ""
    conflict_watch: Annotated[
        bool, _flag("false: do not watch for devices that use addresses of containers [true]")
    ] = True
    store_access: StoreAccessConfig = StoreAccessConfig()
    parents: dict[str, str] = {}
    auto_pools: list[AutoPoolConfig] = []

    def effective_scope(self) -> str:
        """The configured scope, else `global` with a cluster store and `local` without one."""
        return self.scope or ("global" if is_cluster(self.store) else "local")

    def is_shared(self) -> bool:
        """Whether this host shares networks and addresses with others: in global scope, on a cluster store."""
        return is_cluster(self.store) and self.effective_scope() == "global"

    def used_store(self) -> str:
        """The store that addresses come from: a cluster store in global scope only, else this host's own."""
        return "sqlite" if self.unused_store() else self.store

    def unused_store(self) -> str:
        """The configured cluster store that has no effect, since the scope is not global; "" if there is none.

        Nobody has checked its URL, so a password that may stand in it is left out.
        """
        if not is_cluster(self.store) or self.is_shared():
            return ""
        kind, _, rest = self.store.partition("://")
        return f"{kind}://{rest.rpartition('@')[2]}"

    def state_file(self) -> Path | None:
        """The SQLite file of this host's state; None if that is in memory."""
        return state_file(self.store, Path(self.state_dir))

    def admin_socket_here(self) -> str:
        """The admin socket of this host's driver: the managed plugin's if there is no service."""
        # Path.exists raises in a folder that is closed to this user, as /run/macvlan-global is to all but root, where
        # access(2) has an answer. The service's socket is named then; who connects to it is told to use sudo.
        plugin_alone = os.access(PLUGIN_ADMIN_SOCKET, os.F_OK) and not os.access(self.admin_socket, os.F_OK)
        return PLUGIN_ADMIN_SOCKET if plugin_alone else self.admin_socket

    def effective_host_name(self) -> str:
        """The name of this host."""
        return self.host_name or socket.gethostname()

    def pools(self) -> tuple[AutoPool, ...]:
        """Ranges from which pools without a subnet are taken."""
        if not self.auto_pools:
            return DEFAULT_AUTO_POOLS
        return tuple(AutoPool(ip_network(each.base), each.size) for each in self.auto_pools)

    def access_addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Addresses of this host for `host_access`.

        Raises:
            Invalid: one is malformed, or none that an interface of a subnet can have.
        """
        return tuple(map(_access_address, _parts(self.host_access_addresses)))


def _parts(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")] if text.strip() else []


def _described() -> dict[str, str]:
    hints = get_type_hints(Config, include_extras=True)
    return {
        key: meta.description or ""
        for key in Config.__struct_fields__
        for meta in getattr(hints[key], "__metadata__", ())
        if isinstance(meta, msgspec.Meta)
    }


FLAGS = _described()
"""Keys that the environment and the command line can set too, each with the help of its flag, in the order of help."""


def scope_of_labels(labels: Iterable[str]) -> Literal["", "local", "global"]:
    """The scope that the labels of an engine ask for, "" if they ask for none. Newer engines keep names that begin
    with com.docker to themselves; older ones may carry those of the experimental driver."""
    for label in labels:
        key, _, value = label.partition("=")
        if key in SCOPE_LABELS and value == "local":
            return "local"
        if key in SCOPE_LABELS and value == "global":
            return "global"
    return ""


def load_config(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, str | None]) -> Config:
    """Put the configuration together. `file` None means the default file, which need not exist.

    Raises:
        Invalid: the file cannot be read, an unknown key (the nearest known one is named), or a value that cannot be;
            the text says where.
    """
    values: dict[str, Any] = {}
    where: dict[str, str] = {}

    def take(key: str, value: object, source: str) -> None:
        values[key], where[key] = value, source

    path = file or DEFAULT_FILE
    for key, value in _read(path, optional=file is None).items():
        _check_key(key, str(path))
        take(key, value, str(path))
    for key in FLAGS:
        name = ENVIRONMENT_PREFIX + key.upper()
        if name in environment:
            take(key, environment[name], name)
    for key, flag in flags.items():
        if flag is not None:
            take(key, flag, "--" + key.replace("_", "-"))
    return _checked(values, where)


def load_access(given: StoreAccessConfig, environment: Mapping[str, str]) -> StoreAccess:
    """Credentials of this host for a cluster store. The environment's secrets win over those in files.

    Raises:
        Invalid: a file of a secret cannot be read, or is empty.
    """
    return StoreAccess(
        ca=Path(given.ca) if given.ca else None,
        certificate=Path(given.certificate) if given.certificate else None,
        key=Path(given.key) if given.key else None,
        token=environment.get(ENVIRONMENT_PREFIX + "STORE_TOKEN") or _secret("token_file", given.token_file),
        user=given.user,
        password=environment.get(ENVIRONMENT_PREFIX + "STORE_PASSWORD")
        or _secret("password_file", given.password_file),
    )


def _secret(key: str, path: str) -> str:
    if not path:
        return ""
    try:
        secret = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise Invalid(f"[store_access] {key} = {path!r} cannot be read: {reason}") from error
    if not secret:
        raise Invalid(f"[store_access] {key} = {path!r} is empty")
    return secret


def _read(path: Path, *, optional: bool) -> dict[str, Any]:
    """The keys of a file; none if it is not there and `optional`. One that cannot be looked at is not taken for none:
    it may name other sockets."""
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        if optional and isinstance(error, FileNotFoundError | NotADirectoryError):
            return {}
        raise Invalid(f"the configuration file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the configuration file {path} is not TOML: {error}") from error


def _check_key(key: str, source: str) -> None:
    known = Config.__struct_fields__
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise Invalid(f"unknown key {key!r} in {source}; {hint}")


def _checked(values: dict[str, Any], where: Mapping[str, str]) -> Config:
    for key, value in values.items():
        try:  # one key at a time, so that the error can say where the value came from
            msgspec.convert({key: value}, Config, strict=False)
        except msgspec.ValidationError as error:
            shown = "" if isinstance(value, dict | list) else f" = {value!r}"
            raise Invalid(f"{key}{shown} ({where[key]}) is invalid: {error}") from error
    config = msgspec.convert(values, Config, strict=False)
    _check_paths(config, where)
    for each in config.auto_pools:
        _check_auto_pool(each)
    config.access_addresses()
    _check_docker_host(config.docker_host)
    _check_listen_address("metrics", config.metrics, "127.0.0.1:9477")
    _check_listen_address("page", config.page, "127.0.0.1:8153")
    if not _is_ip_address(config.dns):  # the resolver's port may be left out, and is 53 then
        _check_listen_address("dns", config.dns, "127.0.0.153:53")
    for name, seconds, usual in (
        ("repair_grace", config.repair_grace, 60),
        ("dns_ttl", config.dns_ttl, 5),
        ("host_grace", config.host_grace, 600),
    ):
        if not 0 <= seconds < MOST_SECONDS:
            raise Invalid(f"{name} = {seconds} is not a number of seconds; use for example {usual}")
    return config


def _check_paths(config: Config, where: Mapping[str, str]) -> None:
    """Refuse relative paths: the service is not where a command is called, so each would mean another file by them."""
    own = Config()
    for key in ("state_dir", "socket", "admin_socket"):
        _check_path(key, getattr(config, key), where.get(key, ""), getattr(own, key))
    for key in ("ca", "certificate", "key", "token_file", "password_file"):
        if path := getattr(config.store_access, key):
            usual = f"/etc/macvlan-global/{Path(path).name}"
            _check_path(f"[store_access] {key}", path, where["store_access"], usual)
    if config.store.startswith("sqlite://") and not config.store.startswith("sqlite:///"):
        usual = f"sqlite://{own.state_file()}"
        raise Invalid(f"store = {config.store!r} ({where['store']}) names no absolute path; use for example {usual}")


def _check_path(key: str, path: str, source: str, usual: str) -> None:
    if not path.startswith("/"):
        raise Invalid(f"{key} = {path!r} ({source}) is not an absolute path; use for example {usual}")


def _access_address(text: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError as error:
        hint = f"use {text.partition('/')[0]}" if "/" in text else "use for example 192.168.1.250, fd18::250"
        raise Invalid(f"host_access_addresses: {text!r} is not an IP address; {hint}") from error
    if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_link_local:
        raise Invalid(f"host_access_addresses: {text} is not an address of a subnet; use one that is")
    return address


def _check_auto_pool(pool: AutoPoolConfig) -> None:
    try:
        base = ip_network(pool.base)
    except ValueError as error:
        raise Invalid(f"auto_pools: base = {pool.base!r} is not a subnet in CIDR form") from error
    if not base.prefixlen <= pool.size <= base.max_prefixlen:
        raise Invalid(
            f"auto_pools: size = {pool.size} is no prefix length of subnets of {base} "
            f"({base.prefixlen} to {base.max_prefixlen})"
        )


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _check_docker_host(address: str) -> None:
    """Refuse what the engine's port refuses (`engine/docker.py`), with the same words, before anything is opened."""
    kind, _, where = address.partition("://")
    if kind not in {"unix", "tcp"} or not where:
        raise Invalid(f"--docker-host {address!r} is neither unix:///path nor tcp://host:port")


def _check_listen_address(key: str, address: str, usual: str) -> None:
    host, _, port = address.rpartition(":")
    if address and not (host and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise Invalid(f"{key} = {address!r} is not HOST:PORT; use for example {usual}")
