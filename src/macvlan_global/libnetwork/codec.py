"""JSON codec of the plugin protocol. Pure."""

from typing import TypeVar

import msgspec

from macvlan_global.errors import Invalid
from macvlan_global.libnetwork.messages import Empty, Message

M = TypeVar("M", bound=Message)

_encode = msgspec.json.Encoder().encode


def decode(body: bytes, kind: type[M]) -> M:
    """Decode a request. The body may be empty only for requests without content.

    Raises:
        Invalid: not JSON, or not of this type; the text names the place.
    """
    if kind is Empty:
        return kind()
    if not body.strip():
        raise Invalid("the request has no body; the engine may have broken off while it repeated a call: try again")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid(f"the request does not follow the plugin protocol: {error}") from error


def encode(message: Message) -> bytes:
    """Encode a reply."""
    return _encode(message)


def encode_error(text: str, *, ipam: bool) -> bytes:
    """Encode an error: as `Error` for the IPAM driver, `Err` for the network driver."""
    return _encode({"Error" if ipam else "Err": text})
