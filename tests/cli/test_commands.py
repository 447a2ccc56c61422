"""Every command against a running driver: as text, as JSON, and with mistakes."""

import http.client
import os
import pty
import re
import subprocess
import sys

import pytest

from lab import Host
from lab.driver import Driver
from lab.speed import patience
from macvlan_global import __version__
from tests.cli.conftest import ISOLATED, LAN, METRICS

COMMANDS = [
    "serve",
    "status",
    "networks",
    "addresses",
    "parents",
    "hosts",
    "repair",
    "doctor",
    "install",
    "uninstall",
    "version",
]
SILENT_FOR_A_WHILE = """
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
client = server.accept()[0]
client.settimeout(2.5)
try:
    while client.recv(4096):
        pass
except TimeoutError:
    pass
"""
PROGRAM = (sys.executable, "-m", "macvlan_global")


def lines(driver: Driver, *arguments: str) -> list[list[str]]:
    """A table that a command printed: its lines, split where there are at least three blanks."""
    return [re.split(r" {3,}", line) for line in driver.cli(*arguments).stdout.splitlines()]


def test_status_shows_the_driver_and_that_the_engine_is_away(driver: Driver) -> None:
    """Process, counts and the engine's trouble are there, and the exit code says that the driver is well."""
    text = driver.cli("status").stdout
    assert f"Driver:     macvlan-global {__version__}, pid {driver.pid}, up " in text
    assert re.search(
        r"^Engine: +the Docker Engine at \S+ does not answer: No such file or directory$", text, re.MULTILINE
    )
    assert re.search(r"^Networks: +2$", text, re.MULTILINE)


def test_status_as_json_has_every_field(driver: Driver) -> None:
    """Programs read the process id and the counts."""
    found = driver.ask("status")
    assert (found["version"], found["pid"], found["host"]) == (__version__, driver.pid, "cli")
    assert (found["networks"], found["endpoints"], found["addresses"]) == (2, 1, 4)
    assert found["engine"] == ""
    assert found["foreign_records"] == []


def test_networks_has_a_line_for_each_subnet(driver: Driver) -> None:
    """The second subnet of a network stands below the first; the parent's state is told."""
    assert lines(driver, "networks") == [
        ["NETWORK ID", "NAME", "PARENT", "STATE", "MODE", "ENDPOINTS", "SUBNET", "GATEWAY", "USED"],
        [LAN[:12], LAN[:12], "eth1", "up", "bridge", "1", "10.65.0.0/24", "10.65.0.1", "2 of 254"],
        ["", "fd65::/64", "fd65::1", "1 of 2^64"],
        [ISOLATED[:12], ISOLATED[:12], "eth2", "down", "private", "0", "10.66.0.0/24", "10.66.0.1", "1 of 254"],
    ]


def test_networks_as_json_has_options_and_numbers(driver: Driver) -> None:
    """What the table shortens is whole in JSON."""
    first, second = driver.ask("networks")
    assert first["id"] == LAN
    assert first["options"] == {"parent": "eth7, eth1"}
    assert [(each["subnet"], each["used"], each["size"]) for each in first["subnets"]] == [
        ("10.65.0.0/24", 2, 254),
        ("fd65::/64", 1, 2**64 - 1),
    ]
    assert (second["parent_state"], second["parent_made"]) == ("down", False)


def test_addresses_are_in_the_order_of_numbers(driver: Driver) -> None:
    """By network, IPv4 first, .9 before .10; each with its holder."""
    rows = lines(driver, "addresses")
    assert rows[0] == ["ADDRESS", "NETWORK", "KIND", "HOLDER", "MAC", "HOST", "SINCE"]
    assert [row[0] for row in rows[1:]] == ["10.65.0.1", "10.65.0.9", "fd65::1", "10.66.0.1"]
    assert rows[2][2:4] == ["endpoint", "3c" * 6]
    assert rows[2][6].endswith(" ago")


@pytest.mark.parametrize("name", [ISOLATED, ISOLATED[:12], "2b"])
def test_addresses_of_one_network(driver: Driver, name: str) -> None:
    """A network is named by its id or the beginning of it, too."""
    assert [each["address"] for each in driver.ask("addresses", name)] == ["10.66.0.1"]


def test_parents_prints_the_choice_entry_by_entry(driver: Driver) -> None:
    """Each entry has a verdict and a reason, and the parent in use is named."""
    text = driver.cli("parents", LAN[:12]).stdout
    assert re.search(r"^Asked for: +parent=eth7, eth1$", text, re.MULTILINE)
    assert re.search(r"^Parent: +eth1$", text, re.MULTILINE)
    assert re.search(r"^eth7 +passed over +no such interface$", text, re.MULTILINE)
    assert re.search(r"^eth1 +chosen +exists", text, re.MULTILINE)


def test_parents_says_when_no_entry_is_usable_any_more(driver: Driver) -> None:
    """The parent went down after the network was made: the command names the way out."""
    text = driver.cli("parents", ISOLATED[:12]).stdout
    assert "eth2; no entry is usable now, so no container can start on it" in text
    assert "ip link set eth2 up" in text
    assert driver.ask("parents", ISOLATED[:12])["chosen"] == ""


def test_repair_dry_run_changes_nothing(driver: Driver) -> None:
    """It says what it saw, that the engine did not answer, and leaves the counts alone."""
    before = driver.ask("addresses")
    assert "The engine does not answer" in driver.cli("repair", "--dry-run").stdout
    assert driver.ask("repair", "--dry-run") == {"dry_run": True, "engine": False, "corrections": [], "failed": []}
    assert driver.ask("addresses") == before


def test_repair_leaves_a_link_alone_that_may_be_another_drivers(driver: Driver, host: Host) -> None:
    """Only the engine could tell that no container has it, and it does not answer."""
    stray = "mg-0123456789ab"
    host.run(["ip", "link", "add", stray, "link", "eth1", "type", "macvlan", "mode", "bridge"])
    assert stray not in driver.cli("repair").stdout
    assert host.run(["ip", "link", "show", stray], check=False).returncode == 0


def test_version() -> None:
    """As text and as JSON."""
    text = subprocess.run([*PROGRAM, "version"], capture_output=True, text=True, check=True).stdout
    assert text == f"macvlan-global {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    """Every command's help ends with what a user would type."""
    done = subprocess.run([*PROGRAM, command, "--help"], capture_output=True, text=True, check=True)
    example = done.stdout.partition("Example:\n")[2]
    assert f"macvlan-global {command}" in example


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "serve"])
def test_every_command_but_serve_has_json(command: str) -> None:
    """`--json` is everywhere."""
    assert "--json" in subprocess.run([*PROGRAM, command, "--help"], capture_output=True, text=True, check=True).stdout


def test_without_a_word_it_shows_its_help() -> None:
    """As docker does: on stdout, with exit code 0 and every command."""
    done = subprocess.run(PROGRAM, capture_output=True, text=True, check=True)
    assert all(re.search(rf"^  {command} ", done.stdout, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nope",), 2, "No such command 'nope'; see `macvlan-global --help`"),
        (("parents",), 2, "Missing argument 'NETWORK'; see `macvlan-global parents --help`"),
        (("status", "--jsn"), 2, "No such option: --jsn"),
        (("parents", "zz"), 1, f"there is no network 'zz' of macvlan-global on this host; there is: {LAN[:12]}"),
        (("addresses", "zz"), 1, "there is no network 'zz'"),
        (("status", "--admin-socket", "/run/none.sock"), 1, "start it: systemctl start macvlan-global"),
        (("status", "--config", "/none.toml"), 1, "the configuration file /none.toml cannot be read"),
    ],
)
def test_mistakes_are_one_line_with_the_next_step(
    driver: Driver, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """Nothing on stdout, one line on stderr, exit code 2 for wrong usage and 1 for the rest."""
    done = driver.cli(*arguments, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("macvlan-global: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_admin_socket_comes_from_file_and_environment_too(driver: Driver, host: Host) -> None:
    """Flag, variable and file lead to the same driver; a mistake in the file does not matter with the flag."""
    host.run(["sh", "-c", "mkdir -p /etc/macvlan-global; ln -sf /run/macvlan-global/admin.sock /run/other.sock"])
    host.run(
        [
            "sh",
            "-c",
            "echo 'admin_socket = \"/run/other.sock\"' > /run/good.toml; echo 'admin_sokcet = 1' > /run/bad.toml",
        ]
    )
    assert driver.ask("status", "--config", "/run/good.toml")["pid"] == driver.pid
    variable = {"MACVLAN_GLOBAL_ADMIN_SOCKET": "/run/other.sock"}
    assert host.run([*PROGRAM, "status"], env=variable).returncode == 0
    flag = ("--admin-socket", "/run/other.sock", "--config", "/run/bad.toml")
    assert driver.ask("status", *flag)["pid"] == driver.pid
    wrong = driver.cli("status", "--config", "/run/bad.toml", check=False)
    assert "unknown key 'admin_sokcet' in /run/bad.toml; did you mean 'admin_socket'?" in wrong.stderr


def test_tables_are_whole_in_a_pipe_and_coloured_only_on_a_terminal(driver: Driver, host: Host) -> None:
    """A pipe gets plain lines of full width, however narrow the terminal was; NO_COLOR silences colours."""
    piped = host.run([*PROGRAM, "networks"], env={"COLUMNS": "20", "TERM": "xterm"}).stdout
    assert "\x1b" not in piped
    assert all(word in piped.splitlines()[1] for word in (LAN[:12], "10.65.0.0/24", "2 of 254"))
    assert "\x1b[32mup" in _on_a_terminal([*host.enter, *PROGRAM, "networks"], {"TERM": "xterm"})
    assert "\x1b[32m" not in _on_a_terminal([*host.enter, *PROGRAM, "networks"], {"TERM": "xterm", "NO_COLOR": "1"})


def _on_a_terminal(command: list[str], env: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS"}}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=inherited | env) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            said += more
    os.close(ours)
    assert process.returncode == 0, said
    return said.decode()


def test_a_driver_in_local_scope_knows_no_hosts(driver: Driver) -> None:
    """It says what hosts are, and removes none."""
    for words in (["hosts"], ["hosts", "--json"], ["hosts", "remove", "bert"]):
        done = driver.cli(*words, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "this driver runs in local scope and knows no other hosts" in done.stderr


def test_a_reader_that_goes_early_is_no_error(driver: Driver, host: Host) -> None:
    """`networks --json | head -c 1` ends without a traceback, and the command that writes with 0."""
    done = host.run(["bash", "-c", f"{' '.join(PROGRAM)} networks --json | head -c 1; echo ${{PIPESTATUS[0]}}"])
    assert (done.stdout, done.stderr) == ("[0\n", "")


def test_output_that_cannot_be_written_is_an_error_in_one_line(driver: Driver, host: Host) -> None:
    """The disk is full: no traceback, and what fails is said."""
    done = host.run(["sh", "-c", f"{' '.join(PROGRAM)} status > /dev/full"], check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the output cannot be written: No space left on device" in done.stderr


def test_what_takes_longer_than_a_second_shows_that_it_works(host: Host) -> None:
    """A socket that accepts and says nothing: the terminal shows what is waited for, and since when."""
    stuck = host.run_folder / "stuck.sock"
    silent = subprocess.Popen([sys.executable, "-c", SILENT_FOR_A_WHILE, str(stuck)])
    try:
        while not stuck.exists():
            assert silent.poll() is None
        ours, theirs = pty.openpty()
        command = [*host.enter, *PROGRAM, "status", "--admin-socket", "/run/stuck.sock"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=False)
        os.close(theirs)
        shown = os.read(ours, 65536).decode()
        os.close(ours)
    finally:
        silent.kill()
        silent.wait()
    assert "asking the driver (1 s)" in shown
    assert shown.rstrip().splitlines()[-1].rpartition("\x1b[K")[2].startswith("macvlan-global: the driver does not")
    assert done.returncode == 1


def test_names_of_networks_are_completed(host: Host) -> None:
    """The shell gets the names of the running driver's networks; a driver that is away gives none, and no error."""
    asked = {"_MACVLAN_GLOBAL_COMPLETE": "complete_bash", "COMP_WORDS": "macvlan-global parents 1", "COMP_CWORD": "2"}
    assert host.run(PROGRAM, env=asked).stdout.split() == [LAN[:12]]
    away = asked | {"MACVLAN_GLOBAL_ADMIN_SOCKET": "/run/none.sock"}
    done = host.run(PROGRAM, env=away)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_metrics_are_on_loopback(host: Host) -> None:
    """What was asked for with --metrics is served there, in Prometheus' format."""
    with host.in_network():
        connection = http.client.HTTPConnection(METRICS, timeout=patience(10))
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
    assert 'macvlan_global_held{what="networks"} 2.0' in text


@pytest.mark.parametrize("command", ["version", "status", "networks", "doctor"])
def test_commands_do_not_load_the_servers_libraries(host: Host, command: str) -> None:
    """A command is there at once: what only the driver needs is not imported for it."""
    loaded = host.run([sys.executable, "-X", "importtime", "-m", "macvlan_global", command], check=False).stderr
    modules = {line.rpartition("|")[2].strip() for line in loaded.splitlines() if line.startswith("import time:")}
    assert "typer" in modules
    assert modules.isdisjoint({"aiohttp", "prometheus_client", "macvlan_global.daemon"})
