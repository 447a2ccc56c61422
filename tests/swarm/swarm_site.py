"""Hosts in Docker's swarm mode, each with the managed plugin as an operator would install it."""

import contextlib
import itertools
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from lab import DockerError, Host, Wire
from lab.again import again, name_of, notes, ran_out, words_of
from lab.leftovers import processes
from lab.process import wait_until
from lab.site import EngineHost
from lab.speed import pace_now, patience
from plugin.__main__ import BUILD
from plugin.description import NAME

PARENTS = ("eth1", "eno7", "enp3s0")
"""What the interface on the wire is called on each node."""
ENGINES_OWN = frozenset({"bridge", "host", "none", "docker_gwbridge", "ingress"})
SOON = 20.0
ENABLED = 60
"""Seconds until the plugin serves, on the machine that limits were written on."""
AFTER_AN_ENGINE_DIED = 60.0
"""Seconds until a swarm goes on without a node whose engine is gone, or with one whose engine came back."""
_numbers = itertools.count(1)


class Node(EngineHost):
    """One node of the swarm."""

    def __init__(self, host: Host, version: str, parent: str, own: str) -> None:
        """`version` is the engine's label, `parent` the interface on the wire, `own` the node's address there."""
        super().__init__(host)
        self.version = version
        self.parent = parent
        self.own = own

    def docker(self, *arguments: str) -> str:
        """What docker printed. A swarm that had not attached the container in time is asked again: see `lab.again`."""
        return self._again(lambda: super(Node, self).docker(*arguments), arguments)

    def shell(self, line: str) -> str:
        """The same for a command line."""
        return self._again(lambda: super(Node, self).shell(line), words_of(line))

    def _again(self, call: Callable[[], str], words: Sequence[str]) -> str:
        return again(call, words, lambda: self._clear(name_of(words)), where=self.host.name)

    def _clear(self, container: str) -> None:
        """Take away a container that was made and did not start."""
        if container:
            self.host.run(["docker", "rm", "-f", container], check=False)

    def address(self, network: str) -> str:
        """The address that a container gets in a network when it asks for none, in CIDR form."""
        shown = self.docker("run", "--rm", f"--network={network}", "alpine", "ip", "-4", "-o", "addr", "show", "eth0")
        return shown.split()[3]

    def address_of(self, container: str, network: str = "lan") -> str:
        """The address of a container in a network."""
        return self.docker("inspect", "-f", f"{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}", container)

    def stands_on(self, container: str) -> str:
        """The interface of the node that a container's eth0 is a macvlan on."""
        below = self.leg(container)["link_index"]
        shown = json.loads(self.host.run(["ip", "-json", "link", "show"]).stdout)
        return next(str(each["ifname"]) for each in shown if each["ifindex"] == below)

    def addresses_in_use(self) -> list[str]:
        """The address of eth0 in each container that lives here, in order: looked up in the kernel.

        So those are seen too that outlive their engine.
        """
        inside = {}
        for pid in processes(self.host.namespace):
            with contextlib.suppress(OSError):  # it ended meanwhile
                inside[Path(f"/proc/{pid}/ns/net").stat().st_ino] = pid
        shown = [self._eth0(pid) for pid in inside.values()]
        return sorted(each["local"] for addresses in shown for each in addresses)

    def _eth0(self, pid: int) -> list[dict[str, str]]:
        """What eth0 in the network of a process has; nothing if there is no eth0, or no such process any more."""
        enter = ["nsenter", f"--target={pid}", "--net", "--", "ip", "-4", "-json", "addr", "show", "dev", "eth0"]
        done = self.host.run(enter, check=False)
        return [info for each in json.loads(done.stdout or "[]") for info in each.get("addr_info", ())]

    def install(self) -> None:
        """Install the plugin that `make plugin` made, and switch it on."""
        # most of two thousand files' time goes by in the kernel: a user-mode one needs half a minute, idle
        self.host.docker("plugin", "create", NAME, str(BUILD / "plugin"), timeout=300)
        # the engine waits for the driver's socket, by default for half a minute
        self.docker("plugin", "enable", f"--timeout={round(patience(ENABLED))}", NAME)

    def clean(self) -> None:
        """Remove every container that is no task of a service."""
        if containers := self.docker("ps", "-aq").split():
            self.docker("rm", "-f", *containers)


class SwarmSite:
    """Nodes named node1 (a manager), node2, ... on one wire. Use as a context manager."""

    def __init__(self, *versions: str, managers: int = 1, installed: bool = True) -> None:
        """Nothing is there yet.

        Args:
            versions: labels of engines, one for each node.
            managers: how many of the nodes are managers.
            installed: the plugin is on every node.
        """
        self._versions = versions
        self._managers = managers
        self._installed = installed
        self._stack = contextlib.ExitStack()
        self._group = f"s{next(_numbers)}"
        self.nodes: list[Node] = []

    def __enter__(self) -> Self:
        """Make all of it; returns once every node is ready."""
        with contextlib.ExitStack() as stack:
            self.wire = stack.enter_context(Wire())
            names = [f"node{number}" for number in range(1, len(self._versions) + 1)]
            hosts = [stack.enter_context(Host(name, group=self._group)) for name in names]
            self.nodes = [self._node(host, index) for index, host in enumerate(hosts)]
            with ThreadPoolExecutor() as threads:
                list(threads.map(self._start, self.nodes))
            self._swarm()
            self._stack = stack.pop_all()
        return self

    def _node(self, host: Host, index: int) -> Node:
        node = Node(host, self._versions[index], PARENTS[index], f"10.99.0.{index + 1}")
        self.wire.plug(host, node.parent, addresses=[f"{node.own}/24"])
        return node

    def _start(self, node: Node) -> None:
        # as systemd has it: a plugin sees what is mounted on the host later, namespaces of containers above all
        node.host.run(["mount", "--make-rshared", "/"])
        node.host.start_engine(node.version)
        if self._installed:
            node.install()

    def _swarm(self) -> None:
        own = self.manager.own
        # a node is taken for dead after three heartbeats that did not come; by default they come every five seconds
        heartbeat = min(2 * pace_now(), 5.0)
        self.manager.docker(
            "swarm",
            "init",
            f"--advertise-addr={own}",
            f"--listen-addr={own}",
            f"--dispatcher-heartbeat={heartbeat:.1f}s",
        )
        for number, node in enumerate(self.nodes[1:], 2):
            self.join(node, "manager" if number <= self._managers else "worker")
        self.wait_for_nodes(len(self.nodes))

    def join(self, node: Node, role: str = "worker") -> None:
        """Have a node join the swarm, which then knows of it and perhaps is not yet told that it is ready."""
        token = self.manager.docker("swarm", "join-token", "-q", role)
        own = node.own
        joins = ("swarm", "join", f"--token={token}", f"--advertise-addr={own}", f"--listen-addr={own}")
        try:
            node.host.docker(*joins, self.manager.own)
        except DockerError as refused:
            if not ran_out(joins, refused.stderr):
                raise
            # the engine goes on with it, and who waits for nodes that are ready waits for it
            notes.append(f"{node.host.name}: `docker swarm join` took longer than the engine waits, and goes on")

    def __exit__(self, *_: object) -> None:
        """Take all of it away."""
        self._stack.close()

    @property
    def manager(self) -> Node:
        """The first node."""
        return self.nodes[0]

    def ready(self) -> int:
        """How many nodes are ready."""
        return self.manager.docker("node", "ls", "--format={{.Status}}").split().count("Ready")

    def wait_for_nodes(self, number: int) -> None:
        """Return once this many nodes are ready."""
        wait_until(
            lambda: self.ready() == number, f"{number} nodes that are ready", seconds=AFTER_AN_ENGINE_DIED, every=0.2
        )

    def wait_for_plugin(self) -> None:
        """Return once the swarm knows the plugin on every node: a node tells of its plugins now and then."""

        def known() -> bool:
            ids = self.manager.docker("node", "ls", "-q").split()
            nodes = json.loads(self.manager.docker("node", "inspect", *ids))
            found = [each["Description"].get("Engine", {}).get("Plugins") or [] for each in nodes]
            return all(any(plugin["Name"] == NAME for plugin in plugins) for plugins in found)

        wait_until(known, f"plugin {NAME} on every node", seconds=AFTER_AN_ENGINE_DIED, every=0.2)

    def create(self, name: str, subnet: str, *arguments: str, parent: str = ",".join(PARENTS)) -> None:
        """Create a network as the documents say; `parent` "" for no such option."""
        option = (f"-oparent={parent}",) if parent else ()
        gateway = f"--gateway={subnet.rpartition('.')[0]}.1"
        self.manager.docker(
            "network", "create", "-d", NAME, "--attachable", f"--subnet={subnet}", gateway, *option, *arguments, name
        )

    def tasks(self, service: str) -> list[tuple[str, str]]:
        """The running tasks of a service: name and node, in order."""
        lines = self.manager.docker(
            "service", "ps", service, "--filter=desired-state=running", "--format={{json .}}"
        ).splitlines()
        found = [json.loads(line) for line in lines]
        return sorted((each["Name"], each["Node"]) for each in found if each["CurrentState"].startswith("Running"))

    def serve(self, name: str, *arguments: str) -> None:
        """Make a service on network lan, each of whose tasks stays; returns at once."""
        common = ("--detach", "--init", "--network=lan", "--endpoint-mode=dnsrr", "--no-resolve-image")
        self.manager.docker("service", "create", *common, f"--name={name}", *arguments, "alpine", "sleep", "600")

    def settles(self, service: str, wanted: Callable[[list[str]], bool] | int) -> None:
        """Wait until there are as many running tasks as wanted, or their nodes, in order, are as wanted."""

        def settled() -> bool:
            nodes = sorted(node for _, node in self.tasks(service))
            return wanted(nodes) if callable(wanted) else len(nodes) == wanted

        seconds = AFTER_AN_ENGINE_DIED
        explain = lambda: self.manager.docker("service", "ps", "--no-trunc", service)  # noqa: E731
        wait_until(settled, f"tasks of {service} as they should be", seconds=seconds, every=0.2, explain=explain)

    def addresses_in_use(self) -> list[str]:
        """The addresses of all containers that live on the nodes, in order; one that two have is there twice."""
        return sorted(address for node in self.nodes for address in node.addresses_in_use())

    def clean(self) -> None:
        """Remove every service, container and network that a test made."""
        if services := self.manager.docker("service", "ls", "-q").split():
            self.manager.docker("service", "rm", *services)
        for node in self.nodes:
            node.clean()
        names = self.manager.docker("network", "ls", "--format={{.Name}}").split()
        for name in set(names) - ENGINES_OWN:
            self._remove(name)
        # a node forgets a network with its last task there, which may end later than the swarm forgot the network
        wait_until(lambda: not any(self._left_on(node) for node in self.nodes), "end of all", seconds=SOON, every=0.2)

    def _remove(self, network: str) -> None:
        """Remove a network, which cannot be while a task of a removed service still ends."""
        said = ""

        def gone() -> bool:
            nonlocal said
            try:
                return bool(self.manager.docker("network", "rm", network))
            except DockerError as refused:
                said = refused.stderr
                return False

        wait_until(gone, f"end of network {network}", seconds=SOON, every=0.2, explain=lambda: said + self._tasks(said))

    def _tasks(self, said: str) -> str:
        """What the swarm knows of the task that a refusal ends with."""
        task = (said.split() or ["?"])[-1]
        return self.manager.host.run(["docker", "inspect", "--type=task", task], check=False).stdout

    @staticmethod
    def _left_on(node: Node) -> set[str]:
        """Links of ours and networks that a test made, which are on a node still."""
        shown = json.loads(node.host.run(["ip", "-json", "link", "show"]).stdout)
        links = {each["ifname"] for each in shown if each["ifname"].startswith("mg-")}
        return links | set(node.docker("network", "ls", "--format={{.Name}}").split()) - ENGINES_OWN
