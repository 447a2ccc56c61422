"""From facts to findings. Pure; the machine underneath and the parents have modules of their own."""

from collections.abc import Iterable

from macvlan_global.doctor.cluster import examine_cluster
from macvlan_global.doctor.facts import DoctorFacts, DriverFacts, EngineFacts, KernelFacts, StateFacts
from macvlan_global.doctor.findings import Finding, Level, listed
from macvlan_global.doctor.host_access import examine_host_access
from macvlan_global.doctor.parents import examine_parents
from macvlan_global.doctor.platform import examine_platform
from macvlan_global.doctor.swarm import PLUGIN_SOURCE, examine_swarm

OLDEST_ENGINE = (20, 10)
NEWEST_ENGINE = 29
PLUGIN_FOLDER = "/run/docker/plugins"
LARGE_STATE = 256 * 10**6
LITTLE_SPACE = 32 * 10**6
NO_SPACE = 10**6
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}  # linux/capability.h

_MODULES: dict[str, tuple[Level, str]] = {
    "macvlan": ("error", "no network of this driver can work"),
    "8021q": ("warning", "parents such as eth0.10 cannot be made"),
    "dummy": ("warning", "networks without a parent cannot be made"),
}


def examine(facts: DoctorFacts) -> list[Finding]:
    """Every finding, in the order in which an operator would look."""
    return [
        *examine_platform(facts.platform, facts.engine),
        *_modules(facts.kernel),
        *_ipv6(facts),
        *_rights(facts),
        *_engine(facts.engine),
        *_plugin(facts.engine),
        *examine_swarm(facts.swarm),
        *_driver(facts),
        *_socket(facts),
        *_config(facts),
        *_state(facts.state),
        *examine_cluster(facts.cluster),
        *examine_parents(facts),
        *examine_host_access(facts),
        *_conflicts(facts.conflicts),
    ]


def _conflicts(problems: Iterable[str]) -> list[Finding]:
    parted = [problem.rpartition("; ") for problem in problems]
    return [Finding("warning", "conflicts", seen or do, do if seen else "see the log") for seen, _, do in parted]


def _modules(kernel: KernelFacts) -> list[Finding]:
    return [_module(name, kernel, *row) for name, row in _MODULES.items()]


def _module(name: str, kernel: KernelFacts, level: Level, consequence: str) -> Finding:
    state = kernel.modules.get(name, "unknown")
    if state == "missing":
        do = "install the rest of this kernel's modules (linux-modules-extra-… on Ubuntu), or a distribution kernel"
        return Finding(level, "kernel", f"kernel {kernel.release} has no {name}: {consequence}", do)
    if state == "unknown":
        seen = f"whether kernel {kernel.release} has {name} cannot be told from here"
        return Finding("note", "kernel", seen, f"try: modprobe {name}")
    return Finding("ok", "kernel", f"{name} is {state}")


def _ipv6(facts: DoctorFacts) -> list[Finding]:
    wanting = [each.name for each in facts.networks if each.ipv6]
    if not facts.kernel.has_ipv6:
        seen = f"the kernel has no IPv6, but {listed(wanting)} need it" if wanting else "the kernel has no IPv6"
        do = "take ipv6.disable=1 off the kernel's command line, if you want IPv6"
        return [Finding("error" if wanting else "note", "kernel", seen, do)]
    if facts.kernel.ipv6_off and wanting:
        seen = f"IPv6 is off on the host's interfaces; the engine turns it on in containers of {listed(wanting)}"
        return [Finding("note", "kernel", seen, "sysctl net.ipv6.conf.all.disable_ipv6=0, if the host is to use IPv6")]
    return []


def _rights(facts: DoctorFacts) -> list[Finding]:
    who = f"{facts.process.what} (pid {facts.process.pid})"
    missing = [name for name, bit in CAPABILITIES.items() if not facts.process.effective >> bit & 1]
    if not missing:
        return [Finding("ok", "rights", f"{who} has {' and '.join(CAPABILITIES)}")]
    lacks = f"{who} lacks {' and '.join(missing)}"
    if facts.driver.problem:  # it is this command's own rights that were seen
        seen = f"{lacks}, so it sees only a part, and a driver with these rights could not work"
        return [Finding("warning", "rights", seen, "run it as root")]
    seen = f"{lacks}: it cannot make links (NET_ADMIN) or enter network namespaces (SYS_ADMIN)"
    return [Finding("error", "rights", seen, "start it as root, or by the units of `macvlan-global install`")]


def _engine(engine: EngineFacts) -> list[Finding]:
    if engine.problem:
        seen = f"the Docker Engine does not answer: {engine.problem}"
        do = f"start it (systemctl start docker), or set docker_host to where it is (now {engine.where})"
        return [Finding("error", "engine", seen, do)]
    found = [_engine_version(engine.version)]
    if engine.rootless:
        seen = "the engine is rootless: its containers cannot have links of the host"
        found.append(Finding("error", "engine", seen, "use an engine that runs as root"))
    if engine.swarm and not engine.plugin:
        seen = "the engine is in a swarm, which refuses plugins on a socket for networks of swarm scope"
        do = f"install the managed plugin on every node (docker plugin create macvlan-global:latest {PLUGIN_SOURCE}), "
        do += "or create networks without --scope swarm"
        found.append(Finding("note", "engine", seen, do))
    return found


def _plugin(engine: EngineFacts) -> list[Finding]:
    plugin = engine.plugin
    if plugin is None:
        return []
    if plugin.enabled:
        return [Finding("ok", "engine", f"the managed plugin {plugin.name} is enabled")]
    seen = f"the managed plugin {plugin.name} is disabled: no container of its networks can start on this node"
    return [Finding("error", "engine", seen, f"docker plugin enable {plugin.name}")]


def _engine_version(version: str) -> Finding:
    parts = version.split(".")[:2]
    if len(parts) < 2 or not all(part.isdigit() for part in parts):
        seen = f"the engine's version {version!r} cannot be read"
        return Finding("note", "engine", seen, "20.10 to 29 are known to work")
    numbers = (int(parts[0]), int(parts[1]))
    if numbers < OLDEST_ENGINE:
        return Finding("warning", "engine", f"Docker {version} is older than 20.10, the oldest known", "upgrade it")
    if numbers[0] > NEWEST_ENGINE:
        seen = f"Docker {version} is newer than {NEWEST_ENGINE}, the newest known"
        return Finding("note", "engine", seen, "look for a newer macvlan-global, if something does not work")
    return Finding("ok", "engine", f"Docker {version} answers")


def _driver(facts: DoctorFacts) -> list[Finding]:
    driver = facts.driver
    plugin = facts.engine.plugin
    if driver.problem and driver.managed and plugin and not plugin.enabled:
        found = []  # said already
    elif driver.closed:
        seen, _, do = driver.problem.partition("; ")
        found = [Finding("warning", "driver", f"{seen}, so whether it runs cannot be told", do)]
    elif driver.problem:
        do = "systemctl start macvlan-global" if driver.unit else "macvlan-global install, or macvlan-global serve"
        if driver.silent:
            do = "read its log, then restart the driver (systemctl restart macvlan-global); containers run on"
        if driver.managed:
            do = "see the engine's log (journalctl -u docker), which has what the plugin says"
        found = [Finding("error", "driver", driver.problem, do)]
    else:
        found = [Finding("ok", "driver", f"macvlan-global {driver.version} answers")]
    if driver.engine_problem and not facts.engine.problem:
        seen = f"the engine answers here, but not to the driver: {driver.engine_problem}"
        found.append(Finding("warning", "driver", seen, "restart the driver with the right docker_host"))
    found += _doubles(driver)
    if driver.unit is False and not driver.managed:
        seen = "the driver is no service of systemd, so it does not start with the machine"
        found.append(Finding("note", "driver", seen, "macvlan-global install"))
    if driver.outdated:
        seen = (
            f"`macvlan-global install` would write {listed(driver.outdated)} otherwise by now, by its version or the "
        )
        seen += "configuration: the service may lack rights or folders"
        found.append(Finding("note", "driver", seen, "macvlan-global install, which restarts the driver"))
    return [*found, *_store_of_scope(driver)]


def _store_of_scope(driver: DriverFacts) -> list[Finding]:
    if driver.alone:
        seen = "the scope is global, and the store is this host's own: no other host has its networks"
        do = "set store to a consul:// or etcd:// URL, the same on every host; or scope to local"
        return [Finding("warning", "driver", seen, do)]
    if driver.unused_store:
        seen = (
            f"the scope is local, and {driver.unused_store} is not used: this host has no networks of other hosts, and "
            "may give out the addresses that they give out"
        )
        do = (
            'set scope = "global", or take the label macvlan-global.scope=local away from the engine; if this host is '
            "to be alone, take store out of its configuration"
        )
        return [Finding("warning", "driver", seen, do)]
    return []


def _doubles(driver: DriverFacts) -> list[Finding]:
    found = []
    if len(driver.processes) > 1:
        seen = f"{len(driver.processes)} drivers run on this host: pids {listed(map(str, driver.processes))}"
        found.append(Finding("warning", "driver", seen, "stop all but one: the engine talks to one of them only"))
    if driver.spec_files:
        seen = f"the engine may find another driver of this name by {listed(driver.spec_files)}"
        found.append(Finding("warning", "driver", seen, "remove it, unless it names this driver's socket"))
    return found


def _socket(facts: DoctorFacts) -> list[Finding]:
    socket = facts.socket
    if facts.driver.managed:  # the engine made it, in a folder for this plugin alone
        return []
    if not socket.exists:
        if facts.driver.problem:  # said already
            return []
        seen = f"the driver runs, but its plugin socket {socket.path} is gone"
        return [Finding("error", "socket", seen, "restart the driver")]
    if not socket.is_socket:
        return [Finding("error", "socket", f"{socket.path} is no socket", "remove it, and restart the driver")]
    found = []
    if socket.owner != 0 or socket.mode & 0o077:
        seen = f"{socket.path} has mode {socket.mode:04o} and owner {socket.owner}: not only root can use it"
        do = f"chown root:root {socket.path}; chmod 0600 {socket.path}"
        found.append(Finding("warning", "socket", seen, do))
    if socket.path.rpartition("/")[0] not in {PLUGIN_FOLDER, f"/var{PLUGIN_FOLDER}"}:
        seen = f"the engine does not look for plugins at {socket.path}"
        do = f"use {PLUGIN_FOLDER}/macvlan-global.sock, or name the socket in /etc/docker/plugins/macvlan-global.spec"
        found.append(Finding("warning", "socket", seen, do))
    # an engine lists a plugin that is found by its socket only while it has a network of it
    used = "the engine uses it" if "macvlan-global" in facts.engine.plugins else "the engine finds it at first use"
    return found or [Finding("ok", "socket", f"{socket.path} is for root only; {used}")]


def _config(facts: DoctorFacts) -> list[Finding]:
    if facts.config_problem:
        do = "correct it: the driver does not start with it"
        return [Finding("error", "config", facts.config_problem, do)]
    driver = facts.driver
    if driver.configured_store and driver.store not in {"", driver.configured_store}:
        seen = f"the driver runs with store {driver.store}, and its configuration has {driver.configured_store} by now"
        how = "systemctl restart macvlan-global" if driver.unit else "end it, then macvlan-global serve"
        return [Finding("warning", "config", seen, f"restart the driver ({how}); containers run on")]
    return [Finding("ok", "config", facts.config)]


def _state(state: StateFacts) -> list[Finding]:
    if state.problem:
        seen, _, do = state.problem.partition(". It was left as it is. ")
        return [Finding("error", "state", seen, do or "see why, then start the driver again")]
    if not state.exists:
        return [Finding("ok", "state", f"there is no {state.path} yet; the driver makes it")]
    found = []
    if state.foreign:
        seen = f"{len(state.foreign)} records of a newer version are left alone: {listed(state.foreign)}"
        found.append(Finding("warning", "state", seen, "start the newer macvlan-global again"))
    if state.size > LARGE_STATE:
        seen = f"{state.path} has grown to {state.size // 10**6} MB"
        found.append(Finding("note", "state", seen, "see what fills it: macvlan-global addresses"))
    if state.free is not None and state.free < LITTLE_SPACE:
        seen = f"only {state.free // 1000} kB are free on the disk of {state.path}"
        do = "make room: without it the driver hands out no addresses"
        found.append(Finding("error" if state.free < NO_SPACE else "warning", "state", seen, do))
    return found or [Finding("ok", "state", f"{state.path} is sound ({max(1, state.size // 1000)} kB)")]
