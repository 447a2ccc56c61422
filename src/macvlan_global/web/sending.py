"""Answers and events for clients of the page, sent as fast as each takes them. One that takes nothing is cut off: what
waits for it would fill the memory, and its connection be nobody else's.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping

from aiohttp import hdrs, web

WRITE_SECONDS = 20.0
"""A client that does not take a piece of an answer, or an event, for so long is cut off."""
PIECE_BYTES = 1 << 18


async def send(
    http: web.Request, body: bytes, headers: Mapping[str, str], *, seconds: float = WRITE_SECONDS
) -> web.StreamResponse:
    """Send an answer of JSON, each piece of it within so many seconds; returns when the client has taken nearly all of
    it, or is gone."""
    answer = web.StreamResponse(headers=headers)
    answer.content_type, answer.content_length = "application/json", len(body)
    pieces = range(0, 0 if http.method == hdrs.METH_HEAD else len(body), PIECE_BYTES)
    with contextlib.suppress(ConnectionError):
        writer = await answer.prepare(http)
        for at in pieces:
            if not await write(http, answer, body[at : at + PIECE_BYTES], seconds=seconds):
                return answer
        if writer:  # short answers wait for the client as well: it may ask for any number
            await _in_time(http, writer.drain(), seconds)
    return answer


async def write(http: web.Request, stream: web.StreamResponse, text: bytes, *, seconds: float = WRITE_SECONDS) -> bool:
    """Whether the client of a stream that was begun took this within so many seconds. If not, it is gone."""
    return await _in_time(http, stream.write(text), seconds)


async def _in_time(http: web.Request, sending: Awaitable[None], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await sending
    except ConnectionError:
        return False
    except TimeoutError:
        if http.transport:
            http.transport.abort()
        return False
    return True
