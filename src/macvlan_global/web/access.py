"""Access to the page: the names that it may be asked by, and the token that addresses beyond loopback need.

DNS rebinding has a browser ask this host in the name of a foreign page, by a name of that page's choice. So the page
answers to addresses, `localhost` and the name of this host, and to no other name.
"""

import hmac
import os
import secrets
from ipaddress import ip_address
from pathlib import Path

from macvlan_global.errors import Unavailable

TOKEN_FILE = "page-token"  # noqa: S105 - the name of a file
_SCHEME = "Bearer "


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can ask at this address or name."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def may_be_asked_by(header: str, *, loopback: bool, own_name: str) -> bool:
    """Whether `header`, the Host of a request, is a name of ours: see the module. With `loopback` only what leads to
    this machine alone."""
    host = header.rpartition(":")[0] if _has_port(header) else header
    host = host.strip("[]")
    if is_loopback(host):
        return True
    if loopback:
        return False
    try:
        ip_address(host)
    except ValueError:
        return host.lower() == own_name.lower()
    return True


def has_token(authorization: str, token: str) -> bool:
    """Whether the header Authorization of a request shows the token. In constant time."""
    shown = authorization.removeprefix(_SCHEME)
    given = shown.encode(errors="surrogateescape")  # a header may be of any bytes (RFC 9110 section 5.5)
    return authorization.startswith(_SCHEME) and hmac.compare_digest(given, token.encode())


def load_token(state_dir: Path) -> str:
    """The token of this host's page, made once and kept for root in the state folder.

    Raises:
        Unavailable: the file cannot be used.
    """
    path = state_dir / TOKEN_FILE
    try:
        if not path.exists():
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(made, "w") as file:
                file.write(secrets.token_urlsafe(32))
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"the token of the page in {path} cannot be used: {error}") from error
    if not token:
        raise Unavailable(f"the token of the page in {path} is empty; delete the file, and another one is made")
    return token


def _has_port(header: str) -> bool:
    _, colon, port = header.rpartition(":")
    return bool(colon) and port.isascii() and port.isdigit() and (header.count(":") == 1 or header.startswith("["))
