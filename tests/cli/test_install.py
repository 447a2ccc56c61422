"""The systemd units: what is in them, what systemd's own tools say of them, and a host that is booted by systemd."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import ENGINES, Host, Wire, ensure_system_packages, image_archive
from lab.process import wait_until
from macvlan_global.cli.systemd import SERVICE, SOCKET, unit_texts
from macvlan_global.config import Config
from tests.cli.booted import Booted
from tests.cli.plugin import Plugin

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-m", "macvlan_global")
UNITS = "etc/systemd/system"
_DEAF = "trap '' TERM; while :; do sleep 1; done"


def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command on this machine; only ever with --root."""
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder into which the units were installed."""
    ensure_system_packages()
    assert call("install", "--root", str(tmp_path)).returncode == 0
    return tmp_path


def test_install_writes_both_units_and_says_what_is_left(tmp_path: Path) -> None:
    """Below another root nothing is started, and the rest is told as commands."""
    done = call("install", "--root", str(tmp_path))
    assert sorted(each.name for each in (tmp_path / UNITS).iterdir()) == [SERVICE, SOCKET]
    assert re.findall(r"^left to do: +(.*)$", done.stdout, re.MULTILINE) == [
        "systemctl daemon-reload",
        f"systemctl enable --now {SOCKET} {SERVICE}",
    ]


def test_install_again_changes_nothing(installed: Path) -> None:
    """Both units are told to be unchanged, and are."""
    before = {each: each.stat().st_mtime_ns for each in (installed / UNITS).iterdir()}
    steps = json.loads(call("install", "--root", str(installed), "--json").stdout)["steps"]
    assert [step["outcome"] for step in steps] == ["unchanged"] * 4 + ["left to do"] * 2
    assert {each: each.stat().st_mtime_ns for each in (installed / UNITS).iterdir()} == before


def test_a_dry_run_prints_the_files_and_writes_none(tmp_path: Path) -> None:
    """As text, and by path in JSON."""
    text = call("install", "--root", str(tmp_path), "--dry-run").stdout
    assert f"would be done: write {tmp_path / UNITS / SOCKET}" in text
    assert "SocketMode=0600" in text
    found = json.loads(call("install", "--root", str(tmp_path), "--dry-run", "--json").stdout)
    assert "Type=notify" in found["files"][str(tmp_path / UNITS / SERVICE)]
    assert list(tmp_path.iterdir()) == []


def test_the_service_starts_the_very_program_that_installed_it(installed: Path) -> None:
    """With the interpreter of its virtual environment, wherever that is."""
    text = (installed / UNITS / SERVICE).read_text()
    assert f"\nExecStart={sys.executable} -m macvlan_global serve\n" in text


def test_what_the_configuration_moves_is_moved_in_the_units(tmp_path: Path) -> None:
    """Another plugin socket is listened on; other folders are writable for the service; the file is passed on."""
    config = tmp_path / "my config.toml"
    config.write_text(
        'socket = "/run/docker/plugins/x.sock"\nstate_dir = "/srv/mac 100%"\nstore = "sqlite:///data/a.db"\n'
    )
    assert call("install", "--root", str(tmp_path), "--config", str(config)).returncode == 0
    assert "ListenStream=/run/docker/plugins/x.sock\n" in (tmp_path / UNITS / SOCKET).read_text()
    service = (tmp_path / UNITS / SERVICE).read_text()
    assert 'ReadWritePaths="/srv/mac 100%%"\nReadWritePaths=/data\n' in service
    assert f'serve --config "{config}"\n' in service
    assert [(tmp_path / each).stat().st_mode & 0o777 for each in ("srv/mac 100%", "data")] == [0o700, 0o700]


def test_paths_with_everything_systemd_interprets_are_quoted() -> None:
    """Blanks, quotes, percent and dollar signs reach the program as they are."""
    text = unit_texts(['/opt/a b/100%/$x/"q"', "serve"], Config())[SERVICE]
    assert 'ExecStart="/opt/a b/100%%/$$x/\\"q\\"" serve\n' in text


def test_a_unit_that_somebody_else_wrote_is_left_alone(tmp_path: Path) -> None:
    """Neither replaced nor removed: one line says so, and the other unit is not written either."""
    foreign = tmp_path / UNITS / SERVICE
    foreign.parent.mkdir(parents=True)
    foreign.write_text("[Service]\nExecStart=/bin/true\n")
    for command in ("install", "uninstall"):
        done = call(command, "--root", str(tmp_path))
        assert done.returncode == 1
        assert f"{foreign} was not written by `macvlan-global install`; move it away" in done.stderr
    assert foreign.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert not (tmp_path / UNITS / SOCKET).exists()


def test_uninstall_removes_exactly_the_units_and_keeps_the_state(installed: Path) -> None:
    """A neighbour's unit and the state stay; --purge takes the state too, but nothing else in its folder."""
    state = installed / "var/lib/macvlan-global"
    state.mkdir(parents=True)
    for path in (state / "state.db", state / "lock", state / "mine.txt", installed / UNITS / "other.service"):
        path.touch()
    assert call("uninstall", "--root", str(installed)).returncode == 0
    assert [each.name for each in (installed / UNITS).iterdir()] == ["other.service"]
    assert (state / "state.db").exists()
    (state / "state.db").unlink()
    assert call("uninstall", "--root", str(installed), "--purge").returncode == 0
    assert [each.name for each in state.iterdir()] == ["mine.txt"]


def test_systemd_finds_no_fault_with_the_units(installed: Path) -> None:
    """`systemd-analyze verify` says nothing."""
    units = [str(installed / UNITS / name) for name in (SOCKET, SERVICE)]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_security_score_is_as_documented(installed: Path) -> None:
    """`systemd-analyze security` gives the exposure that docs/install.md states, or less."""
    documented = re.search(r"exposure level (\d\.\d)", (ROOT / "docs/install.md").read_text())
    assert documented is not None
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(installed / UNITS / SERVICE)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    measured = re.search(r"Overall exposure level for \S+: (\d\.\d)", said)
    assert measured is not None, said
    assert float(measured[1]) <= float(documented[1])


@pytest.fixture(scope="module")
def machine() -> Iterator[Booted]:
    """A host booted by systemd, on a wire (eth1)."""
    with Wire() as wire, Host("booted") as host:
        wire.plug(host)
        with Booted(host) as machine:
            yield machine


@pytest.fixture(scope="module")
def service(machine: Booted) -> Iterator[Booted]:
    """The same, with the driver installed; after the module's tests it is not."""
    machine.run([*PROGRAM, "install"])
    yield machine
    machine.run([*PROGRAM, "uninstall", "--purge"])
    assert not (machine.host.run_folder / "docker/plugins/macvlan-global.sock").exists()


def is_active(machine: Booted) -> str:
    """What systemd says of the service."""
    return machine.run(["systemctl", "is-active", SERVICE], check=False).stdout.strip()


def test_install_starts_the_driver_and_enables_it(service: Booted) -> None:
    """It runs by the time the command is done, with the socket of systemd, and is started at boot."""
    assert is_active(service) == "active"
    enabled = service.run(["systemctl", "is-enabled", SERVICE, SOCKET]).stdout.split()
    assert enabled == ["enabled", "enabled"]
    assert (service.host.run_folder / "docker/plugins/macvlan-global.sock").stat().st_mode & 0o777 == 0o600
    assert Plugin(service.host).call("Plugin.Activate") == {"Implements": ["NetworkDriver", "IpamDriver"]}
    pid = service.main_pid(SERVICE)
    again = service.run([*PROGRAM, "install"]).stdout
    assert again.count("unchanged:") == 4
    assert service.main_pid(SERVICE) == pid


def test_a_request_starts_a_driver_that_was_stopped(service: Booted) -> None:
    """Socket activation: the engine's next call brings it back. A managed plugin's socket in its folder stays."""
    service.run(["touch", "/run/macvlan-global/plugin.sock"])
    service.run(["systemctl", "stop", SERVICE])
    assert is_active(service) == "inactive"
    assert service.run(["ls", "/run/macvlan-global"]).stdout.split() == ["plugin.sock"]
    service.run(["rm", "/run/macvlan-global/plugin.sock"])
    assert Plugin(service.host).call("Plugin.Activate") == {"Implements": ["NetworkDriver", "IpamDriver"]}
    assert is_active(service) == "active"


def test_a_driver_that_crashed_is_started_again(service: Booted) -> None:
    """With the socket kept all the while."""
    before = service.main_pid(SERVICE)
    service.run(["systemctl", "kill", "--signal=KILL", SERVICE])
    wait_until(lambda: service.main_pid(SERVICE) not in {0, before} and is_active(service) == "active", "restart")


def test_little_of_root_is_left_to_the_service(service: Booted) -> None:
    """Four capabilities, no new privileges, a filter of system calls; most of the file system is read-only."""
    status = service.run(["cat", f"/proc/{service.main_pid(SERVICE)}/status"]).stdout
    assert re.search(r"^CapBnd:\s+0000000000203400$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
    inside = ["nsenter", f"--target={service.main_pid(SERVICE)}", "--mount", "--"]
    for place in ("/etc/x", "/var/lib/x", "/tmp/x", "/root/x"):
        assert "Read-only file system" in service.run([*inside, "touch", place], check=False).stderr
    service.run([*inside, "touch", "/var/lib/macvlan-global/x"])
    service.run([*inside, "rm", "/var/lib/macvlan-global/x"])


def test_the_service_reaches_into_containers_that_came_after_it(service: Booted) -> None:
    """A namespace that is mounted after the service's start is seen by it, and a link in it is taken away at Leave."""
    plugin, network, endpoint = Plugin(service.host), "4d" * 32, "5e" * 32
    sandbox = "/run/docker/netns/later"
    made = "mkdir -p /run/docker/netns /run/netns; ip netns add later"
    service.run(["sh", "-c", f"{made}; touch {sandbox}; mount --bind /run/netns/later {sandbox}"])
    plugin.create_network(network, {"10.67.0.0/24": "10.67.0.1"}, parent="eth1")
    plugin.create_endpoint(network, endpoint, "10.67.0.0/24", "10.67.0.9")
    joined = plugin.call("NetworkDriver.Join", NetworkID=network, EndpointID=endpoint, SandboxKey=sandbox, Options={})
    link = joined["InterfaceName"]["SrcName"]
    service.run(["ip", "link", "set", link, "netns", "later"])
    assert link in service.run(["ip", "netns", "exec", "later", "ip", "link"]).stdout
    plugin.call("NetworkDriver.Leave", NetworkID=network, EndpointID=endpoint)
    assert link not in service.run(["ip", "netns", "exec", "later", "ip", "link"]).stdout
    plugin.call("NetworkDriver.DeleteEndpoint", NetworkID=network, EndpointID=endpoint)
    plugin.call("NetworkDriver.DeleteNetwork", NetworkID=network)
    service.run(["sh", "-c", f"umount {sandbox}; rm {sandbox}; ip netns delete later"])


def test_a_parent_file_may_be_anywhere(service: Booted) -> None:
    """/tmp is not the service's own, and homes are read-only for it, not hidden: the seed's example is in /root."""
    service.run(["sh", "-c", "printf '[macvlan]\\nparent = \"eth1\"\\n' > /tmp/net1.toml"])
    file = {"parent-file": "/tmp/net1.toml"}
    plugin = Plugin(service.host)
    plugin.create_network("6f" * 32, {"10.68.0.0/24": "10.68.0.1"}, **file)
    home = service.run(["nsenter", f"--target={service.main_pid(SERVICE)}", "--mount", "ls", "-d", "/root/."])
    assert home.returncode == 0
    networks = json.loads(service.run([*PROGRAM, "networks", "--json"]).stdout)
    assert [each["parent"] for each in networks] == ["eth1"]
    refused = service.run([*PROGRAM, "uninstall", "--purge"], check=False)
    assert "the state still holds 1 network; remove them first" in refused.stderr
    assert is_active(service) == "active"
    plugin.call("NetworkDriver.DeleteNetwork", NetworkID="6f" * 32)


def test_a_driver_that_runs_otherwise_is_not_fought(service: Booted) -> None:
    """`install` beside a `serve` that somebody started says which process to stop, and changes nothing."""
    service.run([*PROGRAM, "uninstall"])
    started = service.run(["sh", "-c", f"{' '.join(PROGRAM)} serve > /dev/null 2>&1 & echo $!"]).stdout.strip()
    asked = [*PROGRAM, "status"]
    wait_until(lambda: service.run(asked, check=False).returncode == 0, "driver")
    done = service.run([*PROGRAM, "install"], check=False)
    assert f"a driver runs already, and not as a service (pid {started}); stop it (kill {started})" in done.stderr
    assert service.run(["test", "-e", f"/{UNITS}/{SERVICE}"], check=False).returncode != 0
    service.run(["kill", started])
    wait_until(lambda: service.run(asked, check=False).returncode != 0, "end of the driver")
    service.run([*PROGRAM, "install"])


def test_an_engine_that_is_stopped_stays_stopped(service: Booted) -> None:
    """systemd listens for it, and would start it for whoever connects while its containers end, or later. The driver
    asks again and again, and `status` and `doctor` do."""
    path = service.add_engine(ENGINES[0], listens=True)
    service.run(["systemctl", "start", "docker.socket", "docker.service"])

    def docker(*words: str) -> None:
        service.run(["env", f"PATH={path}", "DOCKER_CONFIG=/run/client", "docker", *words])

    def status(key: str) -> object:
        return json.loads(service.run([*PROGRAM, "status", "--json"]).stdout)[key]

    wait_until(lambda: status("engine_followed") is True, "driver that follows the engine", seconds=60)
    docker("import", "--change", 'CMD ["/bin/sh"]', str(image_archive()), "alpine")
    docker(
        "run", "-d", "--network=none", "--name=slow", "alpine", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"
    )
    service.run(["systemctl", "stop", "docker.service"])
    problem = "the Docker Engine at unix:///var/run/docker.sock is not running (docker.service is stopped)"
    wait_until(lambda: status("engine_problem") == problem, "engine that is stopped", seconds=30)
    assert "docker.service is stopped" in service.run([*PROGRAM, "doctor"], check=False).stdout
    assert service.run(["systemctl", "is-active", "docker.service"], check=False).stdout.strip() == "inactive"
    service.run(["systemctl", "stop", "docker.socket"])
    service.run(["rm", "/etc/systemd/system/docker.socket"])


def test_a_service_whose_folders_are_elsewhere_starts(service: Booted) -> None:
    """None of them is there before: `install` makes one, systemd that below /run, again after a boot."""
    service.run([*PROGRAM, "uninstall"])
    text = 'state_dir = "/var/lib/elsewhere/mg"\nadmin_socket = "/run/elsewhere/mg/admin.sock"\n'
    service.run(["sh", "-c", 'printf "%s" "$1" > /etc/elsewhere.toml', "sh", text])
    service.run([*PROGRAM, "install", "--config", "/etc/elsewhere.toml"])
    folders = ["/var/lib/elsewhere/mg", "/run/elsewhere/mg"]
    service.run(["systemctl", "stop", SERVICE, SOCKET])
    service.run(["rm", "-r", "/run/elsewhere"])
    service.run(["systemctl", "start", SOCKET, SERVICE])
    assert service.run(["stat", "--format=%a", *folders]).stdout.split() == ["700", "700"]
    assert json.loads(service.run([*PROGRAM, "status", "--config", "/etc/elsewhere.toml", "--json"]).stdout)["pid"]
    service.run([*PROGRAM, "uninstall", "--purge", "--config", "/etc/elsewhere.toml"])
    assert service.run(["test", "-e", folders[0]], check=False).returncode != 0
    service.run([*PROGRAM, "install"])


def test_a_container_starts_and_ends_by_the_service(service: Booted) -> None:
    """A real engine as docker.service, started after the driver: a container gets its address and gives it back."""
    path = service.add_engine(ENGINES[-1])
    service.run(["systemctl", "start", "docker.service"])
    after = service.run(["systemctl", "show", "--property=After", "--value", "docker.service"]).stdout.split()
    assert {SOCKET, SERVICE} <= set(after)

    def docker(*words: str) -> str:
        return service.run(["env", f"PATH={path}", "DOCKER_CONFIG=/run/client", "docker", *words]).stdout

    docker("import", "--change", 'CMD ["/bin/sh"]', str(image_archive()), "alpine")
    ours = ("-d", "macvlan-global", "--ipam-driver", "macvlan-global", "-o", "parent=eth1")
    docker("network", "create", *ours, "--subnet=10.69.0.0/24", "lan")
    docker("run", "-d", "--init", "--name=one", "--network=lan", "--ip=10.69.0.9", "alpine", "sleep", "600")
    assert "10.69.0.9" in docker("exec", "one", "ip", "addr")
    assert [each["holder"] for each in json.loads(service.run([*PROGRAM, "addresses", "lan", "--json"]).stdout)] == [
        "one"
    ]
    # a link that is made inside wants settings of the kernel, which all else is kept from
    docker("network", "create", *ours, "--subnet=10.70.0.0/24", "-o", "ifname=wan", "direct")
    docker("run", "-d", "--init", "--name=two", "--network=direct", "--ip=10.70.0.9", "alpine", "sleep", "600")
    assert "10.70.0.9" in docker("exec", "two", "ip", "addr", "show", "wan0")
    docker("rm", "-f", "one", "two")
    docker("network", "rm", "direct")
    assert json.loads(service.run([*PROGRAM, "addresses", "--json"]).stdout) == []
    docker("network", "rm", "lan")
    service.run(["systemctl", "stop", "docker.service"])
