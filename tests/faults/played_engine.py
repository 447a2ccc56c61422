"""An engine that is played: Docker's API on a unix socket, true to what is asked of the driver below it."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from tests.faults.plugin_calls import GATEWAY, Gone, Plugin, Refused

DRIVER = "macvlan-global"
GENERIC = "com.docker.network.generic"


def long_id(text: str) -> str:
    """An id as engines make them, the same for the same text."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(slots=True)
class PlayedLeg:
    """A container's leg on a network. `address` is CIDR text; `joined` says that it has a link."""

    name: str
    endpoint: str
    network: "PlayedNetwork"
    address: str = ""
    joined: bool = False

    @property
    def bare(self) -> str:
        """The address without its prefix."""
        return self.address.partition("/")[0]

    @property
    def container(self) -> str:
        """The id of its container."""
        return long_id(self.name)


@dataclass(slots=True)
class PlayedNetwork:
    """A network: what was asked for, the id of its pool, and who runs on it."""

    id: str
    name: str
    pool: str
    body: Mapping[str, Any]
    legs: dict[str, PlayedLeg] = field(default_factory=dict)

    @property
    def config(self) -> Mapping[str, Any]:
        """Its one subnet, as it was asked for."""
        found: Mapping[str, Any] = self.body["IPAM"]["Config"][0]
        return found

    @property
    def fixed(self) -> list[str]:
        """Its gateway and its aux addresses."""
        return [self.config["Gateway"], *self.config.get("AuxiliaryAddresses", {}).values()]

    def shown(self) -> dict[str, Any]:
        """What `docker network inspect` shows."""
        containers = {leg.container: _endpoint(leg) for leg in self.legs.values()}
        return {**self.body, "Id": self.id, "Scope": "local", "EnableIPv4": True, "Containers": containers}


class PlayedEngine:
    """One per host. Networks go by name; `legs` of a network are what runs."""

    def __init__(self, host: str, plugin: Plugin) -> None:
        """Nothing is there yet; `plugin` is where the driver is asked."""
        self.host = host
        self.networks: dict[str, PlayedNetwork] = {}
        self._plugin = plugin
        self._listeners: list[asyncio.Queue[bytes]] = []
        self._made = 0
        self._runner: web.AppRunner | None = None

    async def start(self, socket: Path) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_get("/{v}/info", self._info)
        app.router.add_get("/{v}/version", self._version)
        app.router.add_get("/{v}/events", self._events)
        app.router.add_get("/{v}/networks", self._list)
        app.router.add_post("/{v}/networks/create", self._create)
        app.router.add_get("/{v}/networks/{name}", self._inspect)
        app.router.add_delete("/{v}/networks/{name}", self._delete)
        app.router.add_get("/{v}/containers/{id}/json", self._container)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(socket)).start()

    async def stop(self) -> None:
        """Stop listening."""
        for each in self._listeners:
            each.put_nowait(b"")
        if self._runner:
            await self._runner.cleanup()

    async def create(self, body: Mapping[str, Any]) -> PlayedNetwork:
        """Make a network of one subnet, as `docker network create` does.

        Raises:
            Refused, Gone: the driver does not want it; what was taken is given back.
        """
        self._made += 1
        network = PlayedNetwork(long_id(f"{self.host} {body['Name']} {self._made}"), body["Name"], "", body)
        call, asked, options = self._plugin.call, network.config, body["IPAM"].get("Options") or {}
        reply = await call("IpamDriver.RequestPool", AddressSpace=DEFAULT_SPACE, Pool=asked["Subnet"], Options=options)
        network.pool = reply["PoolID"]
        try:
            gateway = await self._own(network, asked["Gateway"], GATEWAY)
            aux = {label: await self._own(network, each) for label, each in asked.get("AuxiliaryAddresses", {}).items()}
            data = {"AddressSpace": DEFAULT_SPACE, "Pool": reply["Pool"], "Gateway": gateway, "AuxAddresses": aux}
            own = {GENERIC: body["Options"]}
            await call("NetworkDriver.CreateNetwork", NetworkID=network.id, Options=own, IPv4Data=[data], IPv6Data=[])
        except (Refused, Gone):
            with contextlib.suppress(Refused, Gone):
                await call("IpamDriver.ReleasePool", PoolID=network.pool)
            raise
        self.networks[network.name] = network
        self._tell("network", "create", network.id, name=network.name, type=DRIVER)
        return network

    def connected(self, leg: PlayedLeg) -> None:
        """Tell of a container that came."""
        self._tell_of(leg, "connect")

    def disconnected(self, leg: PlayedLeg) -> None:
        """Tell of a container that went."""
        self._tell_of(leg, "disconnect")

    # ---------------------------------------------------------------- inside

    async def _own(self, network: PlayedNetwork, address: str, options: Mapping[str, str] | None = None) -> str:
        asked = {"PoolID": network.pool, "Address": address, "Options": options}
        return str((await self._plugin.call("IpamDriver.RequestAddress", **asked))["Address"])

    def _tell_of(self, leg: PlayedLeg, action: str) -> None:
        network = leg.network
        self._tell("network", action, network.id, name=network.name, type=DRIVER, container=leg.container)

    def _tell(self, kind: str, action: str, subject: str, **attributes: str) -> None:
        event = {"Type": kind, "Action": action, "Actor": {"ID": subject, "Attributes": attributes}}
        for each in self._listeners:
            each.put_nowait(json.dumps(event).encode() + b"\n")

    def _find(self, name: str) -> PlayedNetwork | None:
        return self.networks.get(name) or next((each for each in self.networks.values() if each.id == name), None)

    async def _info(self, _request: web.Request) -> web.Response:
        return web.json_response({"ServerVersion": "28.5.2", "Plugins": {"Network": [DRIVER]}, "Labels": []})

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": "1.51"})

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response([each.shown() | {"Containers": {}} for each in self.networks.values()])

    async def _inspect(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name == "none":
            return web.json_response({"Id": long_id(f"none on {self.host}"), "Name": "none", "Driver": "null"})
        network = self._find(name)
        return web.json_response(network.shown()) if network else _problem(404, f"network {name} not found")

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["Name"] in self.networks:
            return _problem(409, f"network with name {body['Name']} already exists")
        try:
            return web.json_response({"Id": (await self.create(body)).id}, status=201)
        except (Refused, Gone) as error:
            return _problem(400, str(error))

    async def _delete(self, request: web.Request) -> web.Response:
        # no network is removed in these runs, so whoever wants it is wrong
        return _problem(403, f"network {request.match_info['name']} has active endpoints")

    async def _container(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        legs = (leg for network in self.networks.values() for leg in network.legs.values())
        leg = next((leg for leg in legs if leg.container == wanted), None)
        return web.json_response(_container(leg)) if leg else _problem(404, f"no such container: {wanted}")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            with contextlib.suppress(OSError):
                while event := await queue.get():
                    await response.write(event)
        finally:
            self._listeners.remove(queue)
        return response


def _problem(status: int, text: str) -> web.Response:
    return web.json_response({"message": text}, status=status)


def _endpoint(leg: PlayedLeg) -> dict[str, str]:
    return {
        "EndpointID": leg.endpoint,
        "Name": leg.name,
        "IPv4Address": leg.address,
        "MacAddress": "",
        "IPv6Address": "",
    }


def _container(leg: PlayedLeg) -> dict[str, Any]:
    joined = {"NetworkID": leg.network.id, "EndpointID": leg.endpoint, "IPAddress": leg.bare, "Aliases": [leg.name]}
    return {
        "Id": leg.container,
        "Name": f"/{leg.name}",
        "Config": {"Hostname": leg.container[:12]},
        "State": {"Running": True},
        "NetworkSettings": {"SandboxKey": f"/run/netns/{leg.name}", "Networks": {leg.network.name: joined}},
    }
