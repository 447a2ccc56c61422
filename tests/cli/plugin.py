"""Speaks to the plugin socket as an engine does, so that networks can be had without one."""

import json
from typing import Any

from lab import Host
from lab.driver import SOCKET
from lab.speed import patience
from lab.unixhttp import UnixConnection

SPACE = "macvlan-global"


class Plugin:
    """The engine's side of the protocol; every method refuses an answer with an error in it."""

    def __init__(self, host: Host) -> None:
        """Of the driver on this host."""
        self._path = host.run_folder / SOCKET

    def call(self, method: str, **body: object) -> Any:
        """One request and its answer."""
        connection = UnixConnection(self._path, timeout=patience(20))
        connection.request("POST", f"/{method}", json.dumps(body))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        assert not answer.get("Err"), answer
        assert not answer.get("Error"), answer
        return answer

    def create_network(self, identity: str, subnets: dict[str, str], **options: str) -> None:
        """As `docker network create` does; `subnets` are gateways by subnet."""
        data: dict[str, list[dict[str, Any]]] = {"IPv4Data": [], "IPv6Data": []}
        for subnet, gateway in subnets.items():
            ipv6 = ":" in subnet
            pool = self.call("IpamDriver.RequestPool", AddressSpace=SPACE, Pool=subnet, Options={}, V6=ipv6)
            kind = {"RequestAddressType": "com.docker.network.gateway"}
            self.call("IpamDriver.RequestAddress", PoolID=pool["PoolID"], Address=gateway, Options=kind)
            with_length = f"{gateway}/{subnet.partition('/')[2]}"
            fields = {"AddressSpace": SPACE, "Pool": subnet, "Gateway": with_length}
            data["IPv6Data" if ipv6 else "IPv4Data"].append(fields)
        generic = {"com.docker.network.generic": options}
        self.call("NetworkDriver.CreateNetwork", NetworkID=identity, Options=generic, **data)

    def create_endpoint(self, network: str, endpoint: str, subnet: str, address: str) -> None:
        """As `docker run --ip` does."""
        pool = f"{SPACE}/{subnet}"
        found = self.call("IpamDriver.RequestAddress", PoolID=pool, Address=address, Options={})
        interface = {"Address": found["Address"], "AddressIPv6": "", "MacAddress": ""}
        self.call(
            "NetworkDriver.CreateEndpoint", NetworkID=network, EndpointID=endpoint, Interface=interface, Options={}
        )
