"""Docker's API (1.41) on a unix socket, over the double of an engine: as far as a driver asks it."""

import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from macvlan_global.engine.ports import (
    EngineContainer,
    EngineEvent,
    EngineNetwork,
    EngineSubnet,
    NetworkEvent,
    NewNetwork,
)
from macvlan_global.errors import Conflict, MacvlanGlobalError
from testkit.fake_engine import OUR_DRIVER, OUR_IPAM, FakeEngine, engine_id

NONE = "none"
"""The network that an engine makes with its data: its id is the id of these."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ServedEngine:
    """Serves an engine between `start` and `stop`."""

    def __init__(self, engine: FakeEngine) -> None:
        """Nothing listens yet."""
        self._engine = engine
        self._runner: web.AppRunner | None = None

    async def start(self, socket: Path) -> None:
        """Listen at `socket`."""
        app = web.Application()
        app.router.add_get("/{v}/info", _answered(self._info))
        app.router.add_get("/{v}/version", _answered(self._version))
        app.router.add_get("/{v}/events", _answered(self._events))
        app.router.add_get("/{v}/networks", _answered(self._list))
        app.router.add_post("/{v}/networks/create", _answered(self._create))
        app.router.add_get("/{v}/networks/{name}", _answered(self._inspect))
        app.router.add_delete("/{v}/networks/{name}", _answered(self._delete))
        app.router.add_get("/{v}/containers/json", _answered(self._containers))
        app.router.add_get("/{v}/containers/{id}/json", _answered(self._container))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(socket)).start()

    async def stop(self) -> None:
        """Stop listening, and end what is open."""
        self._engine.break_streams()
        if self._runner:
            await self._runner.cleanup()

    async def _info(self, _request: web.Request) -> web.Response:
        info = await self._engine.info()
        shown = {
            "ServerVersion": info.version,
            "Plugins": {"Network": list(info.plugins)},
            "Labels": list(info.labels),
            "LiveRestoreEnabled": info.live_restore,
        }
        return web.json_response(shown)

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": "1.51"})

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response([_network(each) for each in await self._engine.every_network()])

    async def _inspect(self, request: web.Request) -> web.Response:
        wanted = request.match_info["name"]
        if wanted == NONE:
            return web.json_response({"Id": (await self._engine.info()).id, "Name": NONE, "Driver": "null"})
        found = await self._engine.named(wanted) or next(
            (each for each in await self._engine.networks() if each.id == wanted), None
        )
        return web.json_response(_network(found)) if found else _problem(404, f"network {wanted} not found")

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        ipam = body.get("IPAM") or {}
        wanted = NewNetwork(
            name=body["Name"],
            options=dict(body.get("Options") or {}),
            labels=dict(body.get("Labels") or {}),
            internal=bool(body.get("Internal")),
            attachable=bool(body.get("Attachable")),
            ipv4=bool(body.get("EnableIPv4", True)),
            ipv6=bool(body.get("EnableIPv6")),
            ipam_options=dict(ipam.get("Options") or {}),
            subnets=tuple(_subnet(each) for each in ipam.get("Config") or ()),
        )
        return web.json_response({"Id": await self._engine.add_network(wanted)}, status=201)

    async def _delete(self, request: web.Request) -> web.Response:
        await self._engine.delete_network(request.match_info["name"])
        return web.Response(status=204)

    async def _containers(self, request: web.Request) -> web.Response:
        if "filters" not in request.query:
            return web.json_response([{"Id": each.id} for each in self._engine.containers.values()])
        asked = json.loads(request.query["filters"])["network"]
        listed = [
            {"Id": engine_id(name), "Names": [f"/{name}"], "NetworkSettings": {"Networks": {network.name: {}}}}
            for network in await self._engine.every_network()
            if {network.id, network.name} & set(asked)
            for name in await self._engine.referring(network)
        ]
        return web.json_response(listed)

    async def _container(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        found = await self._engine.container(wanted)
        if found is None:
            return _problem(404, f"no such container: {wanted}")
        return web.json_response(_container(found, await self._engine.sandbox(found.id)))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        async with contextlib.aclosing(self._engine.events()) as events:
            async for event in events:
                try:
                    if event is None:
                        await response.prepare(request)
                    else:
                        await response.write(json.dumps(_event(event)).encode() + b"\n")
                except OSError:  # who listened has gone
                    break
        return response


def _answered(handler: Handler) -> Handler:
    """A handler whose errors are answers."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except MacvlanGlobalError as error:
            text = str(error).removeprefix("the Docker Engine refuses: ")
            busy = "active endpoints" in text
            return _problem((403 if busy else 409) if isinstance(error, Conflict) else 400, text)

    return handle


def _problem(status: int, text: str) -> web.Response:
    return web.json_response({"message": text}, status=status)


def _network(network: EngineNetwork) -> dict[str, Any]:
    return {
        "Id": network.id,
        "Name": network.name,
        "Driver": network.driver or OUR_DRIVER,
        "Scope": network.scope,
        "Internal": network.internal,
        "Attachable": network.attachable,
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "Options": network.options,
        "Labels": network.labels,
        "IPAM": {
            "Driver": network.ipam_driver or OUR_IPAM,
            "Options": network.ipam_options,
            "Config": [_config(each) for each in network.subnets],
        },
        "Containers": {
            each.container_id: {
                "EndpointID": each.id,
                "Name": each.container,
                "MacAddress": each.mac,
                "IPv4Address": each.address,
                "IPv6Address": each.address6,
            }
            for each in network.endpoints
        },
    }


def _config(subnet: EngineSubnet) -> dict[str, Any]:
    given = {"Subnet": subnet.subnet, "IPRange": subnet.range, "Gateway": subnet.gateway}
    return {**{key: value for key, value in given.items() if value}, "AuxiliaryAddresses": subnet.aux}


def _subnet(config: dict[str, Any]) -> EngineSubnet:
    aux = dict(config.get("AuxiliaryAddresses") or {})
    return EngineSubnet(config["Subnet"], config.get("IPRange", ""), config.get("Gateway", ""), aux)


def _container(container: EngineContainer, sandbox: str) -> dict[str, Any]:
    networks = {
        each.network_name: {
            "NetworkID": each.network,
            "EndpointID": each.endpoint,
            "IPAddress": each.address,
            "GlobalIPv6Address": each.address6,
            "MacAddress": each.mac,
            "Aliases": list(each.names),
        }
        for each in container.legs
    }
    return {
        "Id": container.id,
        "Name": f"/{container.name}",
        "Config": {"Hostname": container.hostname, "Labels": container.labels},
        "State": {"Running": container.running},
        "NetworkSettings": {"SandboxKey": sandbox, "Networks": networks},
    }


def _event(event: EngineEvent) -> dict[str, Any]:
    if isinstance(event, NetworkEvent):
        # a network of another driver is told of when it is destroyed only, where the driver is no matter
        attributes = {"name": event.name, "type": "macvlan-global"}
        attributes |= {"container": event.container} if event.container else {}
        return {"Type": "network", "Action": event.action, "Actor": {"ID": event.network, "Attributes": attributes}}
    attributes = {"name": event.name}
    return {"Type": "container", "Action": event.action, "Actor": {"ID": event.container, "Attributes": attributes}}
