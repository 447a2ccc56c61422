"""Query a resolver once, to see whether it is ours and works."""

import os
import socket
import struct
from typing import Literal

from macvlan_global.dns.address import ListenAddress

NAME = b"\x0emacvlan-global\x07invalid\x00"
"""A name that no host can have (RFC 6761, `invalid`): our resolver refuses it."""
SECONDS = 1.0
_SERVFAIL, _REFUSED = 2, 5

Verdict = Literal["answers", "has not read the store yet", "is not ours", "does not answer"]


def ask(address: ListenAddress, seconds: float = SECONDS) -> Verdict:
    """Verdict on the resolver at `address`, from its reply within `seconds`."""
    number = os.urandom(2)
    query = number + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + NAME + struct.pack("!HH", 1, 1)
    try:
        with socket.socket(address.family, socket.SOCK_DGRAM) as asker:
            asker.settimeout(seconds)
            asker.connect((address.ip, address.port))
            asker.send(query)
            reply = asker.recv(512)
    except OSError:
        return "does not answer"
    if len(reply) < 4 or reply[:2] != number:
        return "is not ours"
    verdicts: dict[int, Verdict] = {_REFUSED: "answers", _SERVFAIL: "has not read the store yet"}
    return verdicts.get(reply[3] & 0x0F, "is not ours")
