"""Access to a cluster store: the parts of its URL, and the secrets, which are kept out of it."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from macvlan_global.errors import Invalid

DEFAULT_PREFIX = "macvlan-global"
PORTS = {"consul": 8500, "consul+https": 8501, "etcd": 2379, "etcd+https": 2379}
"""Schemes of URLs, and the default port of each."""


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """Credentials of this host for the store, and the authority that signs the store's certificate. Never shown.

    `ca` is a file of authorities in PEM (the system's own without), `certificate` and `key` are this client's. `token`
    is Consul's, `user` and `password` are etcd's.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)


NO_ACCESS = StoreAccess()


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A URL taken apart. `endpoints` are `HOST:PORT`, nearest first; `prefix` is what all keys are below."""

    kind: Literal["consul", "etcd"]
    endpoints: tuple[str, ...]
    tls: bool
    prefix: str


def is_cluster(url: str) -> bool:
    """Whether a URL names a store that several hosts can share."""
    return url.partition("://")[0] in PORTS


def parse_store_url(url: str) -> StoreUrl:
    """Take `consul://host:port,host/prefix` apart.

    Raises:
        Invalid: it is no such URL, or holds a password.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in PORTS:
        raise Invalid(f"--store {scheme!r} is not a kind of cluster store; use {', '.join(PORTS)}")
    hosts, _, path = rest.partition("/")
    if "@" in rest:  # not shown: what stands before it may be a password
        raise Invalid(
            f"--store {scheme}://… must hold no user and no password: every process can read a command line. "
            "Give them in [store_access] of the configuration: user and password_file (etcd), or token_file (Consul)"
        )
    if not all(character.isprintable() and character not in "?#% " for character in path):
        raise Invalid(f"--store {url!r} has a prefix with '?', '#', '%' or a blank in it; use letters, digits and '/'")
    kind: Literal["consul", "etcd"] = "consul" if scheme.startswith("consul") else "etcd"
    parts = [part for part in path.split("/") if part]
    if any(part in {".", ".."} for part in parts):
        raise Invalid(f"--store {url!r} has a prefix with '.' or '..' as a part of it; use letters, digits and '/'")
    return StoreUrl(
        kind,
        tuple(_endpoint(host.strip(), url, PORTS[scheme]) for host in hosts.split(",") if host.strip() or hosts == ""),
        scheme.endswith("+https"),
        "/".join(parts) or DEFAULT_PREFIX,
    )


def _endpoint(text: str, url: str, port: int) -> str:
    try:
        parts = urlsplit(f"//{text}")
        number = parts.port or port
    except ValueError:
        parts, number = urlsplit("//"), 0
    if not parts.hostname or not 0 < number < 65536 or text.count("]") > 1:
        raise Invalid(
            f"--store {url!r} names no store at {text!r}; use for example consul://10.0.0.1:8500,10.0.0.2:8500, "
            "with an IPv6 address in brackets"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{number}"


def check_access(url: StoreUrl, access: StoreAccess) -> None:
    """Check that the credentials fit the kind of store.

    Raises:
        Invalid: a secret that this kind of store has no use for, or half of a pair.
    """
    if (access.ca or access.certificate or access.key) and not url.tls:
        raise Invalid(f"certificates are given for a store without TLS; use {url.kind}+https://")
    if access.key and not access.certificate:
        raise Invalid("[store_access] key is given without certificate; give both")
    if url.kind == "consul" and (access.user or access.password):
        raise Invalid("Consul knows no users and passwords; give a token with [store_access] token_file")
    if url.kind == "etcd" and access.token:
        raise Invalid("etcd knows no tokens of this kind; give [store_access] user and password_file")
    if bool(access.user) != bool(access.password):
        raise Invalid("of [store_access] user and password_file only one is given; give both")


def tls_context(access: StoreAccess) -> ssl.SSLContext:
    """The TLS context of `access`: the certificate of the store and its name are always verified.

    Raises:
        Invalid: a file cannot be read, or is not what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=access.ca)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"[store_access] ca {access.ca} cannot be used: {_reason(error)}") from error
    if access.certificate:
        try:
            # a key with a password would be asked for on the terminal; an empty one makes it an error
            context.load_cert_chain(access.certificate, access.key, password="")
        except (OSError, ssl.SSLError) as error:
            raise Invalid(
                f"[store_access] certificate {access.certificate} with key {access.key} cannot be used: "
                f"{_reason(error)}"
            ) from error
    return context


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
