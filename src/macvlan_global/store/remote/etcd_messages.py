"""Answers of etcd's JSON gateway, decoded. Keys and values are base64 there, and 64-bit numbers are text."""

from typing import TypeVar

import msgspec

from macvlan_global.errors import Unavailable
from macvlan_global.store.remote.members import UNREADABLE, Answer

T = TypeVar("T")

OK, BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 200, 400, 401, 403, 404


class Header(msgspec.Struct, frozen=True):
    """The cluster that answered, and the revision of its history."""

    cluster_id: int = 0
    revision: int = 0
    raft_term: int = 0


class EtcdPair(msgspec.Struct, gc=False):
    """A key, its value, where in history it was last written, and the lease that it goes with."""

    key: bytes
    value: bytes = b""
    mod_revision: int = 0
    lease: int = 0


class Range(msgspec.Struct):
    """Keys that were read; `more` says that the answer had a limit."""

    header: Header
    kvs: list[EtcdPair] = []
    more: bool = False


class Response(msgspec.Struct):
    """The result of one step of a transaction. Only that of an inner transaction is needed."""

    response_txn: "EtcdTxn | None" = None


class EtcdTxn(msgspec.Struct):
    """The result of a transaction: whether its condition held. An inner one has an empty header."""

    header: Header = Header()
    succeeded: bool = False
    responses: list[Response] = []


class Granted(msgspec.Struct):
    """A new lease."""

    id: int = msgspec.field(name="ID", default=0)


class LeaseRenewal(msgspec.Struct):
    """A lease that was renewed; 0 seconds are left of one that has ended."""

    ttl: int = msgspec.field(name="TTL", default=0)


class KeptAlive(msgspec.Struct):
    """One piece of an endless answer to renewals."""

    result: LeaseRenewal | None = None


class Token(msgspec.Struct):
    """A token that stands for user and password."""

    token: str = ""


class EtcdEvent(msgspec.Struct):
    """A key was written, or deleted."""

    kv: EtcdPair
    type: str = "PUT"


class EtcdWatchResponse(msgspec.Struct):
    """One piece of news; `compact_revision` says that older ones are forgotten. One without events that says nothing
    else tells that there are none up to its header's revision."""

    header: Header = Header()
    created: bool = False
    canceled: bool = False
    cancel_reason: str = ""
    compact_revision: int = 0
    events: list[EtcdEvent] = []


class WatchLine(msgspec.Struct):
    """One line of a watch's endless answer; without a result it is an error."""

    result: EtcdWatchResponse | None = None


class Refusal(msgspec.Struct):
    """The reason of a refusal."""

    message: str = ""


def knows_leader(answer: Answer) -> bool:
    """Whether the answer to a linearizable read says that a member has a leader.

    The leader is asked before the user is checked (EtcdServer.Range in server/etcdserver/v3_server.go), so a refusal of
    the user says so too, as that of a token which has expired.
    """
    return answer.status in {OK, BAD_REQUEST, UNAUTHORIZED, FORBIDDEN}


def checked(answer: Answer) -> Answer:
    """The answer.

    Raises:
        Unavailable: etcd refuses.
    """
    if answer.status != OK:
        raise Unavailable(f"etcd refuses ({answer.status}): {words(answer)}")
    return answer


def words(answer: Answer) -> str:
    """The reason of a refusal in etcd's words."""
    try:
        return msgspec.json.decode(answer.body, type=Refusal).message or answer.text
    except UNREADABLE:
        return answer.text


def decode(body: bytes | bytearray, kind: type[T]) -> T:
    """A message of that kind.

    Raises:
        Unavailable: it is none.
    """
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except UNREADABLE as error:
        raise Unavailable(f"etcd's answer cannot be parsed ({error}); is it etcd 3.4 or later?") from error
