"""A client of the page, as a browser is one: requests, and the stream of events."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from lab.speed import within


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.text)


async def get(address: str, path: str, *, method: str = "GET", **headers: str) -> Answer:
    """The answer to one request on a connection of its own; `_` in names of headers is `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        within(30),
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{address}{path}", headers=named) as response,
    ):
        return Answer(response.status, dict(response.headers), await response.text())


class Events:
    """Events of a stream, one after the other."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Read from an answer that goes on."""
        self._lines = response.content
        self.status = response.status

    async def next(self, *names: str) -> tuple[str, Any]:
        """The next event, or the next one of these names: its name and its data."""
        name = ""
        async with within(30):
            async for line in self._lines:
                text = line.decode().rstrip("\n")
                if text.startswith("event: "):
                    name = text.removeprefix("event: ")
                if text.startswith("data: ") and name in (names or (name,)):
                    return name, json.loads(text.removeprefix("data: "))
        raise AssertionError("the stream ended")


@asynccontextmanager
async def events(address: str) -> AsyncIterator[Events]:
    """The stream of events at this address."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"http://{address}/api/events") as response,
    ):
        yield Events(response)
