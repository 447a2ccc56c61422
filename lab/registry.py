"""A registry of images and plugins, for what engines fetch: `docker plugin push`, `install` and `upgrade`."""

import asyncio
import hashlib
import threading
import uuid
from collections.abc import Coroutine
from typing import Any, Self

from aiohttp import web

from lab.hosts import Host

_ALL_THAT_COMES = 1 << 30
_KIND_OF_BLOBS = "application/octet-stream"


class Registry:
    """Keeps in memory what engines of one host push, and gives it back. Use as a context manager.

    It speaks as much of the distribution specification's HTTP API as engines use, and asks nobody who he is. It listens
    on the host's loopback, where engines take plain HTTP without a setting.
    """

    def __init__(self, host: Host, *, port: int = 5000) -> None:
        """Prepare a registry in the network of `host`; nothing listens yet."""
        self.address = f"127.0.0.1:{port}"
        self._host, self._port = host, port
        self._uploads: dict[str, bytes] = {}
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._loop = asyncio.new_event_loop()
        self._runner = web.AppRunner(self._application(), access_log=None)
        self._thread = threading.Thread(target=self._loop.run_forever, name="registry", daemon=True)

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        """End, and forget everything."""
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        await self._runner.setup()
        with self._host.in_network():  # of this thread, which opens the socket before anything else can run in it
            await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=_ALL_THAT_COMES)
        app.add_routes(
            [
                web.get("/v2/", self._welcome),
                web.get("/v2/{name:.+}/blobs/{digest}", self._blob),
                web.post("/v2/{name:.+}/blobs/uploads/", self._begin),
                web.patch("/v2/{name:.+}/blobs/uploads/{upload}", self._more),
                web.put("/v2/{name:.+}/blobs/uploads/{upload}", self._end),
                web.put("/v2/{name:.+}/manifests/{reference}", self._keep),
                web.get("/v2/{name:.+}/manifests/{reference}", self._manifest),
            ]
        )
        return app

    async def _welcome(self, _: web.Request) -> web.Response:
        return web.json_response({})

    async def _blob(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        if digest not in self._blobs:
            return _unknown("BLOB_UNKNOWN", digest)
        return _content(self._blobs[digest], _KIND_OF_BLOBS)

    async def _begin(self, request: web.Request) -> web.Response:
        upload = uuid.uuid4().hex
        self._uploads[upload] = b""
        return self._accepted(request, upload)

    async def _more(self, request: web.Request) -> web.Response:
        upload = request.match_info["upload"]
        self._uploads[upload] += await request.read()
        return self._accepted(request, upload)

    def _accepted(self, request: web.Request, upload: str) -> web.Response:
        place = f"/v2/{request.match_info['name']}/blobs/uploads/{upload}"
        last = max(len(self._uploads[upload]) - 1, 0)
        return web.Response(status=202, headers={"Location": place, "Range": f"0-{last}", "Docker-Upload-UUID": upload})

    async def _end(self, request: web.Request) -> web.Response:
        content = self._uploads.pop(request.match_info["upload"]) + await request.read()
        if _digest(content) != request.query["digest"]:
            return web.json_response({"errors": [{"code": "DIGEST_INVALID"}]}, status=400)
        self._blobs[_digest(content)] = content
        return web.Response(status=201, headers={"Docker-Content-Digest": _digest(content)})

    async def _keep(self, request: web.Request) -> web.Response:
        name, content = request.match_info["name"], await request.read()
        for reference in (request.match_info["reference"], _digest(content)):
            self._manifests[name, reference] = (request.content_type, content)
        return web.Response(status=201, headers={"Docker-Content-Digest": _digest(content)})

    async def _manifest(self, request: web.Request) -> web.Response:
        wanted = (request.match_info["name"], request.match_info["reference"])
        if wanted not in self._manifests:
            return _unknown("MANIFEST_UNKNOWN", ":".join(wanted))
        kind, content = self._manifests[wanted]
        return _content(content, kind)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _content(content: bytes, kind: str) -> web.Response:
    return web.Response(body=content, content_type=kind, headers={"Docker-Content-Digest": _digest(content)})


def _unknown(code: str, what: str) -> web.Response:
    return web.json_response({"errors": [{"code": code, "message": what}]}, status=404)
