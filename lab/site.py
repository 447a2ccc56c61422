"""A host on a wire, with an engine and the driver: where a network of ours can be tried as a user would."""

import json
import sys
from typing import Any

from lab.driver import Driver
from lab.errors import DockerError
from lab.hosts import Host
from lab.unixhttp import ask
from lab.wire import Wire

# The keys of every record in the state file but the host's own identity, which outlives everything, and static
# addresses that are remembered after their containers.
_STATE = """
import sqlite3
for row in sqlite3.connect("file:/var/lib/macvlan-global/state.db?mode=ro", uri=True).execute(
    "SELECT key FROM entries WHERE key NOT LIKE 'identity/%' AND key NOT LIKE 'engine/%' "
    "AND key NOT LIKE 'avoided/%' ORDER BY key"
):
    print(*row)
"""


class EngineHost:
    """A host with an engine, and what a user does there."""

    def __init__(self, host: Host) -> None:
        """The engine runs."""
        self.host = host

    def docker(self, *arguments: str) -> str:
        """Output of a docker command; raises `lab.DockerError` if it refused."""
        return self.host.docker(*arguments).strip()

    def refusal(self, *arguments: str) -> str:
        """Refusal of a docker command, as one line.

        Raises:
            AssertionError: it did not refuse.
        """
        try:
            printed = self.docker(*arguments)
        except DockerError as refused:
            return " ".join(refused.stderr.split())
        raise AssertionError(f"docker {' '.join(arguments)} was not refused; it printed {printed!r}")

    def shell(self, line: str) -> str:
        """Output of a command line that a user types on the host; raises `lab.CommandError` if it failed."""
        return self.host.run(["sh", "-c", line]).stdout.strip()

    def start(self, network: str, name: str, *arguments: str) -> str:
        """Start a container that stays."""
        return self.docker(
            "run", "-d", "--init", f"--network={network}", f"--name={name}", *arguments, "alpine", "sleep", "600"
        )

    def inside(self, container: str, *command: str) -> str:
        """Output of a command in a running container; raises `lab.DockerError` if it failed."""
        return self.docker("exec", container, *command)

    def reaches(self, container: str, target: str) -> bool:
        """Whether a running container gets an answer to a ping, within a second of each of two tries.

        Raises:
            DockerError: there was no ping, as there is no such container, or it does not run.
        """
        try:
            self.inside(container, "ping", "-c2", "-i0.2", "-W1", target)
        except DockerError as failed:
            # a ping without an answer ends with 1, and so does `docker exec` when the engine refuses it
            if failed.returncode != 1 or failed.stderr.startswith("Error"):
                raise
            return False
        return True

    def link(self, name: str) -> dict[str, Any] | None:
        """An interface of the host, as `ip -d -json link` shows it; None if there is none of that name."""
        done = self.host.run(["ip", "-d", "-json", "link", "show", "dev", name], check=False)
        return dict(json.loads(done.stdout)[0]) if done.returncode == 0 else None

    def leg(self, container: str, name: str = "eth0") -> dict[str, Any]:
        """An interface in a container, as `ip -d -json link` shows it."""
        pid = self.docker("inspect", "-f", "{{.State.Pid}}", container)
        enter = ["nsenter", f"--target={pid}", "--net", "--"]
        return dict(json.loads(self.host.run([*enter, "ip", "-d", "-json", "link", "show", "dev", name]).stdout)[0])


class Site(EngineHost):
    """One host on a wire (its end is `eth1`), with an engine and the driver running."""

    def __init__(self, wire: Wire, host: Host, driver: Driver, version: str) -> None:
        """All of these run; `version` is the engine's label."""
        super().__init__(host)
        driver.wait_for_engine()  # names are learnt from its events
        self.wire = wire
        self.driver = driver
        self.version = version

    def create(self, name: str, *arguments: str) -> str:
        """Create a network with our driver and our IPAM."""
        return self.docker(*self.create_command(name, *arguments))

    @staticmethod
    def create_command(name: str, *arguments: str) -> tuple[str, ...]:
        """The arguments of docker that `create` uses."""
        return (
            *("network", "create", "-d", "macvlan-global", "--ipam-driver", "macvlan-global"),
            *arguments,
            name,
        )

    def run(self, network: str, *arguments: str) -> str:
        """Run a container to its end: options first, then `alpine` and the command."""
        return self.docker("run", "--rm", f"--network={network}", *arguments)

    def endpoint(self, container: str, network: str) -> dict[str, Any]:
        """A container's endpoint in a network, by the engine (`IPAddress`, `GlobalIPv6Address`, `MacAddress`)."""
        found = self.docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", container)
        leg: dict[str, Any] = json.loads(found)[network]
        return leg

    def address(self, container: str, network: str) -> str:
        """The IPv4 address of a container in a network."""
        return str(self.endpoint(container, network)["IPAddress"])

    def state(self) -> list[str]:
        """The key of every record in the driver's state file."""
        return self.host.run([sys.executable, "-c", _STATE]).stdout.split()

    def traces(self) -> dict[str, list[str]]:
        """All that a refused command could have left behind: links, records, the engine's networks and containers."""
        return {
            "links": sorted(links(self.host)),
            "state": self.state(),
            "networks": sorted(each["Name"] for each in self.engine("GET", "/networks")),
            "containers": sorted(each["Id"] for each in self.engine("GET", "/containers/json?all=1")),
        }

    def engine(self, method: str, path: str) -> Any:
        """Answer of the engine's API; quicker than the command line, and the same in all versions.

        Raises:
            AssertionError: it refused.
        """
        status, reply = ask(self.host.run_folder / "docker.sock", method, path)
        assert status < 300, f"{method} {path}: {status} {reply}"  # noqa: S101
        return reply

    def clean(self) -> None:
        """Remove every container and every network but those that the engine comes with."""
        for container in self.engine("GET", "/containers/json?all=1"):
            self.engine("DELETE", f"/containers/{container['Id']}?force=1")
        for network in self.engine("GET", "/networks"):
            if network["Name"] not in {"bridge", "host", "none"}:
                self.engine("DELETE", f"/networks/{network['Id']}")


def links(host: Host) -> list[str]:
    """The names of a host's interfaces."""
    found = host.run(["ip", "-o", "link"]).stdout.splitlines()
    return [line.split(": ")[1].partition("@")[0] for line in found]
