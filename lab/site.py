"""A host on a wire, with an engine and the driver: where a network of ours can be tried as a user would."""

from lab.driver import Driver
from lab.hosts import Host
from lab.wire import Wire


class Site:
    """One host on a wire (its end is `eth1`), with an engine and the driver running."""

    def __init__(self, wire: Wire, host: Host, driver: Driver, version: str) -> None:
        """All of these run; `version` is the engine's label."""
        self.wire = wire
        self.host = host
        self.driver = driver
        self.version = version

    def docker(self, *arguments: str) -> str:
        """What docker printed; raises `lab.DockerError` if it refused."""
        return self.host.docker(*arguments).strip()

    def create(self, name: str, *arguments: str) -> str:
        """Create a network with our driver and our IPAM."""
        return self.docker(
            "network", "create", "-d", "macvlan-global", "--ipam-driver", "macvlan-global", *arguments, name
        )

    def start(self, network: str, name: str, *arguments: str) -> str:
        """Start a container that stays."""
        return self.docker(
            "run", "-d", "--init", f"--network={network}", f"--name={name}", *arguments, "alpine", "sleep", "600"
        )

    def run(self, network: str, *arguments: str) -> str:
        """Run a container to its end: options first, then `alpine` and the command."""
        return self.docker("run", "--rm", f"--network={network}", *arguments)

    def clean(self) -> None:
        """Remove every container and every network of ours."""
        if containers := self.docker("ps", "-aq").split():
            self.docker("rm", "-f", *containers)
        if networks := self.docker("network", "ls", "-q", "--filter", "type=custom").split():
            self.docker("network", "rm", *networks)


def links(host: Host) -> list[str]:
    """The names of a host's interfaces."""
    found = host.run(["ip", "-o", "link"]).stdout.splitlines()
    return [line.split(": ")[1].partition("@")[0] for line in found]
