"""Answers of Consul's HTTP API, decoded."""

from typing import TypeVar

import msgspec

from macvlan_global.errors import Unavailable
from macvlan_global.store.remote.members import SERVER_ERROR, UNREADABLE, Answer

T = TypeVar("T")

OK, BAD_REQUEST, NOT_FOUND, CONFLICT, TOO_MANY_REQUESTS = 200, 400, 404, 409, 429


class ConsulPair(msgspec.Struct, rename="pascal", gc=False):
    """A key, its value, and where in Consul's history it was last written."""

    key: str
    value: bytes | None = None
    modify_index: int = 0
    session: str = ""


class Result(msgspec.Struct, gc=False):
    """The result of one step of a transaction."""

    kv: ConsulPair | None = msgspec.field(name="KV", default=None)


class ConsulTxn(msgspec.Struct, rename="pascal"):
    """The result of a transaction: one for each step but deletions."""

    results: list[Result] | None = None


class StepError(msgspec.Struct, rename="pascal"):
    """The reason why a step of a transaction was not done, and so none of them."""

    op_index: int = 0
    what: str = ""


class ConsulRefusal(msgspec.Struct, rename="pascal"):
    """The reasons why a transaction was not done."""

    errors: list[StepError] | None = None


class Session(msgspec.Struct):
    """A new session."""

    id: str = msgspec.field(name="ID")


def is_folder(pair: ConsulPair) -> bool:
    """Whether it only keeps a place in the tree of keys."""
    return pair.key.endswith("/") and not pair.value


def index_of(answer: Answer) -> int:
    """The index of an answer in Consul's history (X-Consul-Index), 1 at least.

    Raises:
        Unavailable: it has none. Who asked with another one would never be kept waiting.
    """
    try:
        return max(1, int(answer.headers["X-Consul-Index"]))  # 0 would not wait
    except (KeyError, ValueError) as error:
        raise Unavailable(
            "an answer of Consul has no X-Consul-Index; a proxy in front of it must pass this header on"
        ) from error


def has_leader(answer: Answer) -> bool:
    """Whether a member names a leader."""
    return answer.status == OK and answer.body.strip() not in {b"", b'""'}


def found(answer: Answer) -> Answer:
    """The answer about keys, which may be that there is nothing.

    Raises:
        Unavailable: Consul refuses, or somebody else says that there is nothing.
    """
    if answer.status != NOT_FOUND:
        return checked(answer)
    index_of(answer)  # Consul's own has one (setMeta in agent/http.go); a proxy that has lost its Consul has none
    return answer


def checked(answer: Answer) -> Answer:
    """The answer.

    Raises:
        Unavailable: Consul refuses.
    """
    if answer.status != OK:
        raise refused(answer)
    return answer


def pairs_in(answer: Answer) -> list[ConsulPair]:
    """The pairs in an answer about keys.

    Raises:
        Unavailable: see `found`, or it is no such answer.
    """
    return [] if found(answer).status == NOT_FOUND else decode(answer.body, list[ConsulPair])


def reasons(answer: Answer) -> list[StepError]:
    """The steps of a refused transaction that could not be done; none if the answer does not tell."""
    try:
        return msgspec.json.decode(answer.body, type=ConsulRefusal).errors or []
    except UNREADABLE:
        return []


def refuses_key(answer: Answer) -> bool:
    """Whether Consul refuses the name of a key that is in the request's path, with the status of a server that failed.

    1.21.5 takes few characters there (hashicorp/consul#22682), later ones most of them (#22850). Keys in the body of a
    transaction are not looked at.
    """
    return answer.status == SERVER_ERROR and b"invalid key name" in answer.body


def refused(answer: Answer) -> Unavailable:
    """The error that says why Consul refuses."""
    if not refuses_key(answer):
        return Unavailable(f"Consul refuses ({answer.status}): {answer.text}")
    return Unavailable(
        f"Consul refuses ({answer.status}): {answer.text.rstrip('.')}; this release of Consul refuses such keys: run "
        "another release, or set on its servers disable_http_unprintable_char_filter = true (1.21.5) or "
        "disable_kv_key_validation = true (later)"
    )


def decode(body: bytes | bytearray, kind: type[T]) -> T:
    """A message of that kind.

    Raises:
        Unavailable: it is none.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise Unavailable(f"Consul's answer cannot be parsed ({error}); is it Consul 1.8 or later?") from error
