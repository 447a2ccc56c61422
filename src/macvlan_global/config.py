"""Configuration: defaults, then the file, then the environment, then the command line, as one frozen value."""

import difflib
import math
import socket
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

import msgspec

from macvlan_global.errors import Invalid
from macvlan_global.ipam.autopool import DEFAULT_AUTO_POOLS, AutoPool

DEFAULT_FILE = Path("/etc/macvlan-global/config.toml")
ENVIRONMENT_PREFIX = "MACVLAN_GLOBAL_"


class AutoPoolConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[auto_pools]]`: subnets of prefix length `size` are cut from `base` when a network names none."""

    base: str
    size: int


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. `scope` "" means what fits the store; `metrics` is `HOST:PORT`, "" for none;
    `repair_grace` in seconds is how old a thing must be before repair takes it for abandoned."""

    scope: Literal["", "local", "global"] = ""
    store: str = "sqlite"
    socket: str = "/run/docker/plugins/macvlan-global.sock"
    admin_socket: str = "/run/macvlan-global/admin.sock"
    state_dir: str = "/var/lib/macvlan-global"
    docker_host: str = "unix:///var/run/docker.sock"
    host_name: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    metrics: str = ""
    repair_grace: float = 60.0
    parents: dict[str, str] = {}
    auto_pools: list[AutoPoolConfig] = []

    def effective_scope(self) -> str:
        """`local` unless said otherwise."""
        return self.scope or "local"

    def effective_host_name(self) -> str:
        """The name of this host."""
        return self.host_name or socket.gethostname()

    def pools(self) -> tuple[AutoPool, ...]:
        """Where automatic pools come from."""
        if not self.auto_pools:
            return DEFAULT_AUTO_POOLS
        return tuple(AutoPool(ip_network(each.base), each.size) for each in self.auto_pools)


SCALARS = tuple(name for name in Config.__struct_fields__ if name not in {"parents", "auto_pools"})
"""Keys that the environment and the command line can set too."""


def load_config(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, str | None]) -> Config:
    """Put the configuration together. `file` None means the default file, which need not exist.

    Raises:
        Invalid: an unknown key (the nearest known one is named), or a value that cannot be; the text says where.
    """
    values: dict[str, Any] = {}
    where: dict[str, str] = {}

    def take(key: str, value: object, source: str) -> None:
        values[key], where[key] = value, source

    path = file or DEFAULT_FILE
    if file or path.exists():
        for key, value in _read(path).items():
            _check_key(key, str(path))
            take(key, value, str(path))
    for key in SCALARS:
        name = ENVIRONMENT_PREFIX + key.upper()
        if name in environment:
            take(key, environment[name], name)
    for key, flag in flags.items():
        if flag is not None:
            take(key, flag, "--" + key.replace("_", "-"))
    return _checked(values, where)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
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
            raise Invalid(f"{key}{shown} ({where[key]}) is not right: {error}") from error
    config = msgspec.convert(values, Config, strict=False)
    for each in config.auto_pools:
        _check_auto_pool(each)
    _check_metrics(config.metrics)
    if not 0 <= config.repair_grace < math.inf:
        raise Invalid(f"repair_grace = {config.repair_grace} is not a number of seconds; use for example 60")
    return config


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


def _check_metrics(address: str) -> None:
    host, _, port = address.rpartition(":")
    if address and not (host and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise Invalid(f"metrics = {address!r} is not HOST:PORT; use for example 127.0.0.1:9477")
