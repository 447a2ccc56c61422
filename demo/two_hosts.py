"""`make demo`: the seed's foo and bar on two hosts with one store, as a user would type it, and then nothing is left.

Both hosts are namespaces of this machine, made by the lab: its own network, engine and files are not touched. The
seed makes foo and bar dummies, which lead nowhere. Here they are two ends of one wire, so that containers can talk.
"""

import argparse
import contextlib
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from demo.background import accepts
from demo.errors import DemoError
from demo.page_act import PAGE, PageAct
from demo.places import FAILED, shown
from demo.screen import Screen
from demo.stage import CONTAINERS, SOON, VERSION, Place, until
from demo.terminal import Terminal
from lab.cluster_site import ClusterSite, StoreKind, at_once, has, lacks
from lab.driver import ADMIN_SOCKET
from lab.errors import LabError
from lab.guest import kernel_has
from lab.hosts import Host
from lab.leftovers import reap_leftovers
from lab.packages import engine, ensure_stores
from lab.process import wait_until
from lab.site import Site
from macvlan_global.errors import MacvlanGlobalError

NETWORK = "mcv20"
INTERFACES = ("foo", "bar")
LOG = Path("/run/macvlan-global.log")
STORES: dict[StoreKind, str] = {"consul": "Consul", "etcd": "etcd"}


@dataclass(frozen=True)
class Wish:
    """Wishes of whoever started the demo: the store, VLANs or none, and whether the page stays until Enter."""

    store: StoreKind
    vlans: bool
    stay: bool


def _wish() -> Wish:
    parser = argparse.ArgumentParser(prog="python -m demo.two_hosts", description="One network on two hosts.")
    parser.add_argument("--store", choices=STORES, default="consul")
    parser.add_argument("--vlans", action=argparse.BooleanOptionalAction, default=kernel_has("8021q"))
    parser.add_argument("--stay", action="store_true", help="before all is removed, wait until Enter is pressed")
    given = parser.parse_args()
    return Wish(given.store, given.vlans, given.stay)


def main() -> int:
    """Tell the story; 0 if all of it came true, 1 with one line on stderr if not."""
    wish = _wish()
    if os.geteuid() != 0:
        print("demo: namespaces and engines are root's; use `sudo make demo`", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    screen = Screen()
    try:
        _prepare(screen, wish)
        _tell(screen, wish)
    except (DemoError, LabError, OSError) as error:
        print(f"demo: {str(error).splitlines()[0]}; nothing of it is left", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; nothing of it is left", file=sys.stderr)
        return 130
    screen.plain(f"\nAll of it is gone again: hosts, engines, wire and store. It took {screen.seconds():.0f} s.")
    return 0


def _interrupt(_number: int, _frame: object) -> None:
    _ignore_signals()  # taking all away must not be interrupted a second time
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _prepare(screen: Screen, wish: Wish) -> None:
    """Have what is fetched once, and nothing of a run that was killed."""
    reap_leftovers()
    ensure_stores()
    screen.plain(
        f"Two hosts with Docker Engine {engine(VERSION).version} each, and one {STORES[wish.store]}, all in namespaces "
        "of this machine.\nWhat follows a prompt was typed on that host; the rest is what came of it."
    )


def _tell(screen: Screen, wish: Wish) -> None:
    with ClusterSite(store=wish.store) as cluster:
        terminals = [_terminal(screen, cluster, interface) for interface in INTERFACES]
        try:
            _story(screen, cluster, terminals, wish)
        except (DemoError, LabError, MacvlanGlobalError) as error:
            _keep_logs(cluster, terminals)
            raise DemoError(f"{str(error).splitlines()[0]} (logs: {shown(FAILED)}/*.log)") from error
        finally:
            _ignore_signals()


def _terminal(screen: Screen, cluster: ClusterSite, interface: str) -> Terminal:
    host = cluster.machine()
    cluster.wire.plug(host, interface)
    return Terminal(screen, host, VERSION)


def _story(screen: Screen, cluster: ClusterSite, terminals: list[Terminal], wish: Wish) -> None:
    store = STORES[wish.store]
    with screen.step(f"Two hosts on one wire, which is called foo on host1 and bar on host2; and {store}"):
        for terminal, interface in zip(terminals, INTERFACES, strict=True):
            terminal.type(f"ip -brief link show {interface}")
        screen.say(f"{store} answers on {cluster.store.endpoints[0]}, a machine of its own")
    with screen.step(f"On each host the driver, told where {store} is, and a Docker Engine that needs no settings"):
        one, two = _bring_up(screen, cluster, terminals)
    with screen.step("The hosts know each other"):
        # what a host tells about its engine comes a second later
        wait_until(partial(_all_told, one), "word of both engines", seconds=SOON)
        one.type("macvlan-global hosts")
        one.type(f"grep -i 'watch triggered' {LOG}")
    with screen.step("Names of all hosts' containers: the driver's resolver is put first, before any other"):
        for each in (one, two):
            each.type("macvlan-global dns install")
    with screen.step("A network, created on host1"):
        _create(screen, one, two, vlans=wish.vlans)
    with screen.step("A container on each host, with addresses of our choosing"):
        for number, each in enumerate((one, two), 1):
            each.type(
                f"docker run -d --init --net={NETWORK} --ip=192.168.20.{number}0 --ip6=fd20::{number}0 "
                f"--name={CONTAINERS[number - 1]} alpine sleep 600"
            )
    with screen.step("They reach each other, across the wire, by address"):
        two.pings("two", "192.168.20.10")
        one.pings("one", "fd20::20")
    with screen.step("And by name"):
        for each, name in ((two, "one"), (one, "two")):
            wait_until(partial(each.knows, name), f"name {name} on {each.terminal.host.name}", seconds=SOON)
        two.pings("two", "one", "-4")
        two.pings("two", "one", "-6")
        one.pings("one", f"two.{NETWORK}", "-4")
    with screen.step("No address is given out twice in the cluster, whichever host is asked"):
        said = two.terminal.refused(f"docker run --rm --net={NETWORK} --ip=192.168.20.10 alpine true")
        if "in use by container one on host host1" not in said:
            raise DemoError(f"the refusal does not say who has the address: {said.strip()}")
        two.type(f"macvlan-global addresses {NETWORK}")
    with PageAct(screen, cluster.wire, one, two) as page:
        page.play()
        if wish.stay:
            screen.plain("\nPress Enter, and all of it goes.")
            sys.stdin.readline()
        page.clear(NETWORK)
    with screen.step("Removed on one host, it goes everywhere"):
        one.type("docker rm -f one")
        two.type("docker rm -f two")
        two.type(f"docker network rm {NETWORK}")
        until(screen, "host1 has removed it", lambda: lacks(one.site, NETWORK))
        one.type(f"docker network ls --filter name={NETWORK}")


def _bring_up(screen: Screen, cluster: ClusterSite, terminals: list[Terminal]) -> list[Place]:
    drivers = [cluster.driver(terminal.host) for terminal in terminals]
    for terminal, driver in zip(terminals, drivers, strict=True):
        driver.log = _log(terminal.host)
        page = f" --page {PAGE}" if terminal is terminals[-1] else ""
        terminal.type(f"macvlan-global serve --store {cluster.store.url}{page} >{LOG} 2>&1 &")
    for terminal in terminals:  # an engine that starts first would wait for its networks' driver
        socket = terminal.host.run_folder / ADMIN_SOCKET
        wait_until(partial(accepts, socket), f"driver on {terminal.host.name}", seconds=SOON)
        screen.command("dockerd &", host=terminal.host.name)
    at_once(partial(terminal.host.start_engine, VERSION) for terminal in terminals)
    return [
        Place(terminal, Site(cluster.wire, terminal.host, driver, VERSION))
        for terminal, driver in zip(terminals, drivers, strict=True)
    ]


def _create(screen: Screen, one: Place, two: Place, *, vlans: bool) -> None:
    tag = ".10" if vlans else ""
    if not tag:
        screen.say("without VLAN links (8021q) the parents are foo and bar, and not foo.10 and bar.10")
    one.type(
        "docker network create -d macvlan-global --ipam-driver macvlan-global --ipv6 "
        "--subnet=192.168.20.0/24 --gateway=192.168.20.1 --subnet=fd20::/64 --gateway=fd20::1 "
        f'-o parent="toothbrush, foo{tag}, bar{tag}" -o macvlan_mode=bridge {NETWORK}'
    )
    until(screen, "host2 has made it too", lambda: has(two.site, NETWORK))
    two.type(f"docker network ls --filter name={NETWORK}")
    for place, interface in zip((one, two), INTERFACES, strict=True):
        place.type(f"macvlan-global parents {NETWORK}")
        if tag:
            place.type(f"ip -d link show {interface}{tag}")


def _all_told(place: Place) -> bool:
    told = place.site.driver.admin.hosts()
    return len(told) == len(INTERFACES) and all(each.engine for each in told)


def _keep_logs(cluster: ClusterSite, terminals: list[Terminal]) -> None:
    """The hosts go, and with them what was said on them."""
    logs = {f"{cluster.store.scheme}.log": cluster.store.members[0].log}
    for terminal in terminals:
        host = terminal.host
        logs |= {f"{host.name}-driver.log": _log(host), f"{host.name}-dockerd.log": host.folder / "dockerd.log"}
    FAILED.mkdir(parents=True, exist_ok=True)
    for name, file in logs.items():
        with contextlib.suppress(OSError):  # it had not come so far
            shutil.copy(file, FAILED / name)


def _log(host: Host) -> Path:
    return host.run_folder / LOG.relative_to("/run")


if __name__ == "__main__":
    sys.exit(main())
