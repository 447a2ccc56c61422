"""The seed's first example: one network on one parent, and two containers that talk."""

from ipaddress import IPv4Network

from demo import engine, wire
from demo.errors import DemoError
from demo.places import shown
from demo.screen import Screen, attempt, run
from lab.image import image_archive

DRIVER = "macvlan-global"
NETWORK = "mac"
CONTAINERS = ("mac-one", "mac-two")
IMAGE = "macvlan-global-demo"
LABEL = "macvlan-global.demo"
STATIC = 10
"""Number within the subnet of the address of the container with `--ip`."""


def import_image(screen: Screen) -> None:
    """Give the engine a small image made of this machine's busybox: no registry is needed."""
    if _docker("images", "--quiet", IMAGE):
        screen.say(f"the engine has {IMAGE}")
        return
    screen.run(
        "docker", "import", "--change", 'CMD ["sh"]', shown(image_archive()), IMAGE, env=engine.docker_environment()
    )


def create_network(screen: Screen, subnet: IPv4Network) -> None:
    """The network of the seed, on the demo's wire."""
    screen.run(
        *("docker", "network", "create", "-d", DRIVER, "--ipam-driver", DRIVER, "--label", LABEL),
        *(f"--subnet={subnet}", f"--gateway={wire.gateway(subnet)}"),
        *("-o", f"parent={wire.PARENT}", "-o", "macvlan_mode=bridge", NETWORK),
        env=engine.docker_environment(),
    )


def start_containers(screen: Screen, subnet: IPv4Network) -> None:
    """Two containers: one has an address of the user's choosing, one of the driver's."""
    for name, options in zip(CONTAINERS, ([f"--ip={subnet[STATIC]}"], []), strict=True):
        screen.run(
            *("docker", "run", "-d", "--init", "--label", LABEL, f"--name={name}", f"--network={NETWORK}", *options),
            *(IMAGE, "sleep", "infinity"),
            env=engine.docker_environment(),
        )


def ping_each_other(screen: Screen, subnet: IPv4Network) -> None:
    """By address, by name, and the router across the wire.

    Raises:
        DemoError: an answer is missing.
    """
    one, two = CONTAINERS
    pings = [(two, str(subnet[STATIC])), (two, one), (one, two), (one, wire.gateway(subnet))]
    for source, target in pings:
        screen.run("docker", "exec", source, "ping", "-c", "1", "-W", "2", target, env=engine.docker_environment())


def check_names_are_free() -> None:
    """Refuse to touch what is called like ours and is not.

    Raises:
        DemoError: something is.
    """
    for kind, names in (("container", CONTAINERS), ("network", (NETWORK,))):
        for name in names:
            found = attempt("docker", kind, "inspect", name, env=engine.docker_environment())
            if found.returncode == 0 and LABEL not in found.stdout:
                raise DemoError(
                    f"there is a {kind} {name!r} that is not the demo's; rename or remove it, then `make run`"
                )


def remove(screen: Screen, *, image: bool = True) -> None:
    """Remove containers, network and image. Repeatable."""
    env = engine.docker_environment()
    if containers := _docker("ps", "-aq", "--filter", f"label={LABEL}").split():
        screen.run("docker", "rm", "-f", *containers, env=env)
    if networks := _docker("network", "ls", "-q", "--filter", f"label={LABEL}").split():
        screen.run("docker", "network", "rm", *networks, env=env)
    if image and _docker("images", "--quiet", IMAGE):
        screen.run("docker", "rmi", IMAGE, env=env)


def is_there() -> bool:
    """Whether the engine holds a network of the demo, which only a running driver can take away."""
    return bool(_docker("network", "ls", "-q", "--filter", f"label={LABEL}"))


def _docker(*arguments: str) -> str:
    return run("docker", *arguments, env=engine.docker_environment())
