"""Metrics for Prometheus over HTTP, on the address of the configuration. Loaded by drivers that serve metrics only."""

from aiohttp import web

from macvlan_global.admin.http_listener import HttpListener
from macvlan_global.admin.loop_lag import LoopLag
from macvlan_global.admin.readings import Readings
from macvlan_global.errors import Unavailable
from macvlan_global.metrics.exposition import CONTENT_TYPE, text_of

CONNECTIONS_MOST = 32
IDLE_SECONDS = 120.0
"""Prometheus asks again within this time on the connection that it has, if its scrape_interval is not longer."""


class MetricsServer:
    """Prometheus metrics at /metrics."""

    def __init__(self, readings: Readings) -> None:
        """Answer from these."""
        self._readings = readings
        self._lag = LoopLag(readings.loop_lag)
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=IDLE_SECONDS)
        self._server = HttpListener(runner, CONNECTIONS_MOST)

    async def start(self, address: str) -> None:
        """Begin to serve on `HOST:PORT`.

        Raises:
            Unavailable: the address cannot be used, or the state file cannot be read.
        """
        await self._readings.load()
        try:
            await self._server.start(address)
        except OSError as error:
            raise Unavailable(f"metrics cannot be served on {address}: {error}") from error
        self._lag.start()

    async def stop(self) -> None:
        """Stop."""
        self._lag.stop()
        await self._server.stop()

    async def _answer(self, _http: web.Request) -> web.Response:
        text = text_of(await self._readings.read())
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})
