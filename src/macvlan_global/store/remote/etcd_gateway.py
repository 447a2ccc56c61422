"""Requests to etcd's JSON gateway, with the token of a user if there is one, which is requested and renewed."""

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

import msgspec

from macvlan_global.errors import Unavailable
from macvlan_global.store.access import StoreAccess, StoreUrl, tls_context
from macvlan_global.store.remote.etcd_messages import (
    BAD_REQUEST,
    OK,
    UNAUTHORIZED,
    Header,
    Range,
    Token,
    checked,
    decode,
    knows_leader,
    words,
)
from macvlan_global.store.remote.members import DEADLINE, Answer, HealthCheck, Members, OpenSession, Request

T = TypeVar("T")


class Gateway:
    """The members of one etcd. Without a user nothing is said of who asks, but in the certificate."""

    def __init__(self, url: StoreUrl, access: StoreAccess, open_session: OpenSession | None = None) -> None:
        """Know where the members are; nothing is asked yet.

        Raises:
            Invalid: a file of certificates cannot be used.
        """
        self._root = f"{url.prefix}/".encode()
        health = HealthCheck(self._health_request, knows_leader)
        self.members = Members(url.endpoints, tls_context(access) if url.tls else None, health, open_session)
        self._user, self._password = access.user, access.password
        self._token = ""
        self._renewing = asyncio.Lock()

    async def position(self, until: float) -> Header:
        """The cluster that answers, and the revision of its history now.

        Raises:
            NotAsked, AnswerLost: see there.
            Unavailable: etcd refuses.
        """
        return (await self.post("/v3/kv/range", self._count_of_root(), Range, until)).header

    async def post(self, path: str, body: object, kind: type[T], until: float) -> T:
        """Ask, and take the answer apart. `until` is when it must be over, on the loop's clock.

        Raises:
            NotAsked, AnswerLost: see there.
            Unavailable: etcd refuses.
        """
        return decode(checked(await self.ask(path, body, until)).body, kind)

    async def ask(self, path: str, body: object, until: float, *, bulk: bool = False) -> Answer:
        """Ask with our token, and with a new one if that is refused. `bulk` is for a read of many keys.

        Raises:
            NotAsked, AnswerLost: see there.
            Unavailable: the user is refused.
        """
        token = self._token
        answer = await self.members.ask(await self._request(path, body, until, bulk=bulk), until)
        # 401 is a token that a member does not know (any more), 400 may be one from before users were changed
        if self._user and answer.status in {BAD_REQUEST, UNAUTHORIZED}:
            await self._renew_token(token or self._token, until)
            answer = await self.members.ask(await self._request(path, body, until, bulk=bulk), until)
        return answer

    async def stream(self, path: str, body: object) -> AsyncGenerator[bytes, None]:
        """Ask for what has no end.

        Raises:
            NotAsked, AnswerLost, Refused: see there.
            Unavailable: the user is refused.
        """
        until = asyncio.get_running_loop().time() + DEADLINE
        return self.members.stream(await self._request(path, body, until))

    def forget_token(self) -> None:
        """Ask for a new one next time: it may be too old for what does not say so."""
        self._token = ""

    def _count_of_root(self) -> dict[str, object]:
        """The body of a linearizable read of one key that is never there, for which our own role is enough."""
        return {"key": self._root, "count_only": True}

    def _health_request(self) -> Request:
        # not Maintenance.Status: since 3.5.28 and 3.6.0 etcd keeps that from who shows no token, or is not root
        return self._with_token("/v3/kv/range", self._count_of_root())

    def _with_token(self, path: str, body: object, *, bulk: bool = False) -> Request:
        headers = {"Authorization": self._token} if self._token else None
        return Request("POST", path, msgspec.json.encode(body), headers, bulk)

    async def _request(self, path: str, body: object, until: float, *, bulk: bool = False) -> Request:
        if self._user and not self._token:
            await self._renew_token("", until)
        return self._with_token(path, body, bulk=bulk)

    async def _renew_token(self, refused: str, until: float) -> None:
        async with self._renewing:
            if self._token != refused:
                return  # somebody else has renewed it
            body = msgspec.json.encode({"name": self._user, "password": self._password})
            answer = await self.members.ask(Request("POST", "/v3/auth/authenticate", body), until)
            if answer.status == OK:
                self._token = decode(answer.body, Token).token
            elif answer.status == BAD_REQUEST:
                raise Unavailable(f"etcd does not accept user {self._user!r} and its password: {words(answer)}")
            else:
                checked(answer)
