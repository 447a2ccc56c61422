"""Metrics for Prometheus over HTTP, on the address of the configuration. Loaded by drivers that serve metrics only."""

from typing import NoReturn

from aiohttp import web

from macvlan_global.admin.http_listener import HttpListener
from macvlan_global.admin.loop_lag import LoopLag
from macvlan_global.admin.readings import Readings
from macvlan_global.metrics.exposition import CONTENT_TYPE, text_of

CONNECTIONS_MOST = 32
IDLE_SECONDS = 120.0
"""Prometheus asks again within this time on the connection that it has, if its scrape_interval is not longer."""


class MetricsServer:
    """Prometheus metrics at /metrics."""

    def __init__(self, readings: Readings, address: str) -> None:
        """Answer from these, on `HOST:PORT`."""
        self._readings = readings
        self._lag = LoopLag(readings.loop_lag)
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=IDLE_SECONDS)
        self.listener = HttpListener("metrics", address, runner, CONNECTIONS_MOST)

    async def start(self) -> None:
        """Begin to serve; see `HttpListener.start`.

        Raises:
            Unavailable: the state file cannot be read.
        """
        await self._readings.load()
        await self.listener.start()
        self._lag.start()

    async def run(self) -> NoReturn:
        """See `HttpListener.run`."""
        await self.listener.run()

    async def stop(self) -> None:
        """Stop."""
        self._lag.stop()
        await self.listener.stop()

    async def _answer(self, _http: web.Request) -> web.Response:
        text = text_of(await self._readings.read())
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})
