"""Speaks to the driver's socket as an engine does, on one connection that is kept."""

import json
import secrets
import socket
from pathlib import Path
from typing import Any

SOCKET = Path("/run/docker/plugins/macvlan-global.sock")


class Plugin:
    """The driver, as an engine sees it."""

    def __init__(self, path: Path = SOCKET) -> None:
        """Connect.

        Raises:
            OSError: nobody serves there.
        """
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(path))

    def ask(self, method: str, **body: Any) -> dict[str, Any]:
        """One request.

        By hand, since http.client takes as long as what is measured; an engine's own client is faster than either.

        Raises:
            RuntimeError: the driver refused.
        """
        content = json.dumps(body).encode()
        head = f"POST /{method} HTTP/1.1\r\nHost: plugin\r\nContent-Length: {len(content)}\r\n\r\n"
        self._socket.sendall(head.encode() + content)
        answer: dict[str, Any] = json.loads(self._answer())
        if problem := answer.get("Err") or answer.get("Error"):
            raise RuntimeError(f"{method}: {problem}")
        return answer

    def _answer(self) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._receive()
        return body

    def _receive(self) -> bytes:
        chunk = self._socket.recv(65536)
        if not chunk:
            raise ConnectionResetError("the driver closed the connection")
        return chunk

    def create_network(self, subnet: str, parent: str, **options: str) -> "PluginNetwork":
        """A network of this subnet on this parent, with these options, as `docker network create` makes it."""
        space = self.ask("IpamDriver.GetDefaultAddressSpaces")["LocalDefaultAddressSpace"]
        pool = self.ask("IpamDriver.RequestPool", AddressSpace=space, Pool=subnet)["PoolID"]
        network = secrets.token_hex(32)
        self.ask(
            "NetworkDriver.CreateNetwork",
            NetworkID=network,
            Options={"com.docker.network.generic": {"parent": parent, **options}},
            IPv4Data=[{"AddressSpace": space, "Pool": subnet}],
            IPv6Data=[],
        )
        return PluginNetwork(self, network, pool)


class PluginNetwork:
    """One network, and the requests by which containers come and go."""

    def __init__(self, plugin: Plugin, network: str, pool: str) -> None:
        """It exists; ids are the engine's and the address book's."""
        self._plugin = plugin
        self._network = network
        self._pool = pool

    def request_address(self, name: str = "") -> str:
        """An address, in CIDR form, for a container of this name; "" if the engine does not tell it."""
        options = {"com.docker.network.endpoint.name": name} if name else {}
        asked = self._plugin.ask("IpamDriver.RequestAddress", PoolID=self._pool, Address="", Options=options)
        return str(asked["Address"])

    def endpoint(self, address: str) -> "Attached":
        """An endpoint with this address, without a link."""
        endpoint = secrets.token_hex(32)
        interface = {"Address": address, "AddressIPv6": "", "MacAddress": ""}
        ids = {"NetworkID": self._network, "EndpointID": endpoint}
        self._plugin.ask("NetworkDriver.CreateEndpoint", **ids, Interface=interface, Options={})
        return Attached(endpoint, address, "")

    def attach(self, sandbox: str) -> "Attached":
        """Requests of an engine as a container starts: an address, an endpoint, a link."""
        made = self.endpoint(self.request_address())
        ids = {"NetworkID": self._network, "EndpointID": made.endpoint}
        joined = self._plugin.ask("NetworkDriver.Join", **ids, SandboxKey=sandbox, Options={})
        return Attached(made.endpoint, made.address, joined["InterfaceName"]["SrcName"])

    def detach(self, attached: "Attached") -> None:
        """Requests of an engine as a container ends."""
        ids = {"NetworkID": self._network, "EndpointID": attached.endpoint}
        self._plugin.ask("NetworkDriver.Leave", **ids)
        self._plugin.ask("NetworkDriver.DeleteEndpoint", **ids)
        self._plugin.ask("IpamDriver.ReleaseAddress", PoolID=self._pool, Address=attached.address.partition("/")[0])


class Attached:
    """An endpoint whose link, if it has one, was made and not moved yet."""

    def __init__(self, endpoint: str, address: str, link: str) -> None:
        """`address` in CIDR form; `link` "" without one."""
        self.endpoint = endpoint
        self.address = address
        self.link = link
