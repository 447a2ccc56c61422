"""Bytes to messages and back. Pure."""

from typing import TypeVar

import msgspec

from macvlan_global.errors import Invalid
from macvlan_global.libnetwork.messages import Empty, Message

MAX_BODY = 1024 * 1024

M = TypeVar("M", bound=Message)

_encode = msgspec.json.Encoder().encode


def decode(body: bytes, kind: type[M]) -> M:
    """Read a request. An empty body is fine only for a request with nothing in it.

    Raises:
        Invalid: not JSON, or not of this shape; the text says where.
    """
    if kind is Empty:
        return kind()
    if not body.strip():
        raise Invalid("the request has no body; the engine may have broken off while it repeated a call: try again")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid(f"the request is not what the protocol says: {error}") from error


def encode(message: Message) -> bytes:
    """Write a reply."""
    return _encode(message)


def encode_error(text: str, *, ipam: bool) -> bytes:
    """Write an error where the engine looks for it: `Error` of an IPAM driver, `Err` of a network driver."""
    return _encode({"Error" if ipam else "Err": text})
