"""`install`, `uninstall` and `dns` below another root, in this process."""

import configparser
import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from macvlan_global.cli.systemd import FOLDER_FILES, SERVICE, SOCKET, SQLITE_ENDS, WRITTEN_BY_US
from macvlan_global.kernel.names import OUR_ALIAS
from macvlan_global.store.records import NetworkRecord
from macvlan_global.store.sqlite import open_sqlite
from macvlan_global.store.table import Tables
from macvlan_global.web.access import TOKEN_FILE
from tests.unit.running import command

UNITS = "etc/systemd/system"
STATE_FILES = (*(f"state.db{end}" for end in SQLITE_ENDS), *FOLDER_FILES)
PLAIN = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3"


def test_install_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both units are written once; systemd's part is left to do below another root."""
    done = command(capsys, "install", "--root", str(tmp_path))
    assert sorted(each.name for each in (tmp_path / UNITS).iterdir()) == [SERVICE, SOCKET]
    assert "left to do:    systemctl daemon-reload" in done.text
    steps = command(capsys, "install", "--root", str(tmp_path), "--json").json["steps"]
    assert [step["outcome"] for step in steps] == ["unchanged"] * 4 + ["left to do"] * 2


def test_network_managers_are_kept_off_our_links_and_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the alternative name and the alias that the driver gives them; the operator's own VLANs match nothing."""
    command(capsys, "install", "--root", str(tmp_path))
    file = tmp_path / "etc/systemd/network/00-macvlan-global.network"
    network = configparser.ConfigParser()
    network.read(file)
    globs = network["Match"]["Name"].split()
    ours = [f"{OUR_ALIAS}-eth0.65", f"{OUR_ALIAS}-dm-0123456789ab", "mg-0123456789ab", f"{OUR_ALIAS}-mgh-eth0"]
    theirs = ["eth0.65", "eth0", "vlan10", "mg-uplink", "dm-lan", "macvlan-global"]
    assert all(any(fnmatchcase(name, glob) for glob in globs) for name in ours)
    assert not any(fnmatchcase(name, glob) for name in theirs for glob in globs)
    assert network["Link"]["Unmanaged"] == "yes"
    rules = (tmp_path / "etc/udev/rules.d/80-macvlan-global.rules").read_text()
    assert f'ATTR{{ifalias}}=="{OUR_ALIAS}", ENV{{NM_UNMANAGED}}="1"' in rules
    command(capsys, "uninstall", "--root", str(tmp_path))
    assert not file.exists()


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The texts of the units are printed instead."""
    text = command(capsys, "install", "--root", str(tmp_path), "--dry-run").text
    assert f"would be done: write {tmp_path / UNITS / SOCKET}" in text
    assert "SocketMode=0600" in text
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_moves_what_the_units_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The socket, and the folders that the service may write to."""
    config = tmp_path / "my config.toml"
    config.write_text('socket = "/run/x.sock"\nstate_dir = "/srv/a 100%"\nstore = "sqlite:///data/a.db"\n')
    assert command(capsys, "install", "--root", str(tmp_path), "--config", str(config)).code == 0
    assert "ListenStream=/run/x.sock\n" in (tmp_path / UNITS / SOCKET).read_text()
    service = (tmp_path / UNITS / SERVICE).read_text()
    assert 'ReadWritePaths="/srv/a 100%%"\nReadWritePaths=/data\n' in service
    assert f'serve --config "{config}"\n' in service
    assert service.startswith(WRITTEN_BY_US)
    assert sys.executable in service or "macvlan-global" in service


def test_the_folders_that_the_configuration_names_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """systemd starts no service whose ReadWritePaths= lacks one (226/NAMESPACE). Those that are there stay as they are,
    and a dry run names them."""
    config, data = tmp_path / "config.toml", tmp_path / "data"
    config.write_text('state_dir = "/srv/a/b"\nstore = "sqlite:////data/a.db"\n')
    data.mkdir(mode=0o755)
    words = ("install", "--root", str(tmp_path), "--config", str(config))
    planned = command(capsys, *words, "--dry-run").text.splitlines()
    assert planned[:2] == [f"would be done: create {tmp_path}/srv/a/b", f"unchanged:     create {data}"]
    assert not (tmp_path / "srv").exists()
    done = command(capsys, *words).text.splitlines()
    assert done[:2] == [f"done:          create {tmp_path}/srv/a/b", f"unchanged:     create {data}"]
    assert [each.stat().st_mode & 0o777 for each in (tmp_path / "srv/a/b", data)] == [0o700, 0o755]
    assert "ReadWritePaths=/srv/a/b\nReadWritePaths=/data\n" in (tmp_path / UNITS / SERVICE).read_text()
    config.write_text('state_dir = "/config.toml/x"\n')  # a file is in the way
    refused = command(capsys, *words)
    assert (refused.code, refused.text) == (1, "")
    assert f"{config}/x cannot be created: Not a directory" in refused.error


def test_units_that_install_would_write_otherwise_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of an earlier version, and of a configuration that was changed; not those of another command line."""
    config, root = tmp_path / "my 100% config.toml", tmp_path / "root"
    config.write_text('state_dir = "/srv/a"\n')
    command(capsys, "install", "--root", str(root), "--config", str(config))
    service, rules = root / UNITS / SERVICE, root / "etc/udev/rules.d/80-macvlan-global.rules"

    def told() -> list[str]:
        doctor = ("doctor", "--root", str(root), "--config", str(config), "--admin-socket", str(tmp_path / "none"))
        found = [each for each in command(capsys, *doctor, "--json").json["findings"] if "would write" in each["seen"]]
        assert all(each["do"].startswith("macvlan-global install") for each in found)
        return [path.name for path in (service, rules) for each in found if str(path) in each["seen"]]

    assert told() == []
    text = service.read_text()
    service.write_text(re.sub("ExecStart=.* serve", "ExecStart=/opt/other/macvlan-global serve", text))
    assert told() == []
    service.write_text(text.replace("RuntimeDirectoryPreserve=yes\n", ""))
    rules.write_text(f"{WRITTEN_BY_US}\n")
    assert told() == [service.name, rules.name]
    rules.unlink()
    service.write_text(text)
    config.write_text('state_dir = "/srv/b"\n')
    assert told() == [service.name]
    config.write_text("not TOML")
    assert told() == []
    service.write_text("[Service]\nExecStart=/of/somebody/else\n")
    assert told() == []


def test_a_folder_below_run_is_made_at_each_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a tmpfs: what `install` makes there is gone after a boot. The service's own folder needs no line."""
    config = tmp_path / "config.toml"
    config.write_text('admin_socket = "/var/run/my mg/admin.sock"\nstore = "sqlite:///run/macvlan-global/state.db"\n')
    done = command(capsys, "install", "--root", str(tmp_path), "--config", str(config)).text
    assert "create " not in done
    service = (tmp_path / UNITS / SERVICE).read_text()
    assert re.findall("^(R[a-z]+Directory.*=.*)$", service, re.MULTILINE) == [
        "RuntimeDirectory=macvlan-global",
        "RuntimeDirectoryMode=0700",
        "RuntimeDirectoryPreserve=yes",
        'RuntimeDirectory="my mg"',
    ]


def test_a_unit_of_somebody_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither replaced nor removed."""
    foreign = tmp_path / UNITS / SERVICE
    foreign.parent.mkdir(parents=True)
    foreign.write_text("[Service]\n")
    for words in ("install", "uninstall"):
        done = command(capsys, words, "--root", str(tmp_path))
        assert (done.code, foreign.read_text()) == (1, "[Service]\n")
        assert f"{foreign} was not written by `macvlan-global install`; move it away" in done.error


def test_beside_the_package_install_is_for_other_units_and_uninstall_for_those(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package's go on without those that install wrote; it is apt that removes the package's."""
    packaged = tmp_path / "usr/lib/systemd/system" / SERVICE
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    refused = command(capsys, "uninstall", "--root", str(tmp_path))
    assert refused.code == 1
    assert "the driver is a service of the package macvlan-global; remove that: apt remove" in refused.error
    assert command(capsys, "install", "--root", str(tmp_path)).code == 0
    done = command(capsys, "uninstall", "--root", str(tmp_path))
    assert list((tmp_path / UNITS).iterdir()) == []
    assert packaged.exists()
    assert "disable" not in done.text
    assert done.text.splitlines()[-3:-2] == [f"left to do:    systemctl restart {SOCKET} {SERVICE}"]


def test_uninstall_keeps_the_state_and_purge_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other files in the folder of the state stay in either case."""
    command(capsys, "install", "--root", str(tmp_path))
    state = tmp_path / "var/lib/macvlan-global"
    state.mkdir(parents=True)
    for name in (*STATE_FILES, "mine.txt"):
        (state / name).touch()
    assert command(capsys, "uninstall", "--root", str(tmp_path)).code == 0
    assert list((tmp_path / UNITS).iterdir()) == []
    assert (state / "lock").exists()
    assert command(capsys, "uninstall", "--root", str(tmp_path), "--purge").code == 0
    assert [each.name for each in state.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("url", ["sqlite:///srv/mg/lan.db", "sqlite:////srv/mg/lan.db"])
async def test_purge_is_about_the_state_file_of_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    """Networks in it stop it before anything is removed; without, all of the state goes, and nothing beside it."""
    config, state, data = tmp_path / "config.toml", tmp_path / "var/lib/macvlan-global", tmp_path / "srv/mg"
    config.write_text(f'store = "{url}"\n')
    words = ("--root", str(tmp_path), "--config", str(config))
    command(capsys, "install", *words)
    state.mkdir(parents=True)
    (state / "lock").touch()
    store = open_sqlite(data / "lan.db")
    networks = Tables(store, store).networks
    await networks.put(NetworkRecord(id="n", name="lan", given={}, at=0), "n")
    refused = command(capsys, "uninstall", "--purge", *words)
    assert (refused.code, refused.text) == (1, "")
    assert "the state still holds 1 network; remove them first" in refused.error
    await networks.drop("n")
    await store.close()
    for name in ("lan.db-wal", "lan.db.lock", "lock", "mine.txt"):
        (data / name).touch()
    assert command(capsys, "uninstall", "--purge", *words).code == 0
    assert (sorted(each.name for each in data.iterdir()), state.exists()) == (["lock", "mine.txt"], False)


def test_purge_with_a_relative_path_removes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration is refused, as it is by the driver; the units stay."""
    config = tmp_path / "config.toml"
    command(capsys, "install", "--root", str(tmp_path))
    config.write_text('state_dir = "state"\n')
    done = command(capsys, "uninstall", "--purge", "--root", str(tmp_path), "--config", str(config))
    assert done.code == 1
    assert f"state_dir = 'state' ({config}) is not an absolute path; use for example /var/lib" in done.error
    assert sorted(each.name for each in (tmp_path / UNITS).iterdir()) == [SERVICE, SOCKET]


def test_the_package_purges_the_same_files() -> None:
    """All that is kept in the state folder, the token of the page too."""
    script = (Path(__file__).parents[3] / "packages/debian/postrm").read_text()
    (names,) = re.findall(r"for name in (.*); do", script)
    assert tuple(names.split()) == STATE_FILES
    assert TOKEN_FILE in STATE_FILES


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host's resolv.conf with three nameservers."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text(PLAIN)
    return tmp_path


def test_the_resolver_is_put_first_and_taken_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each change is shown as lines; a dry run changes nothing, and removing brings back every byte."""
    dry = command(capsys, "dns", "install", "--dry-run", "--root", str(root)).text
    assert dry.startswith(f"would change: {root}/etc/resolv.conf\n  + # macvlan-global: begin")
    assert (root / "etc/resolv.conf").read_text() == PLAIN
    done = command(capsys, "dns", "install", "--root", str(root)).text
    assert "\n  + nameserver 127.0.0.153\n" in done
    (warning,) = [line for line in done.splitlines() if line.startswith("warning: ")]
    assert "192.0.2.3" in warning
    again = command(capsys, "dns", "install", "--root", str(root), "--json").json
    assert (again["changed"], again["diff"]) == (False, [each for each in again["diff"] if each.startswith(" ")])
    assert "\n  - nameserver 127.0.0.153\n" in command(capsys, "dns", "remove", "--root", str(root)).text
    assert (root / "etc/resolv.conf").read_text() == PLAIN
    assert "is up to date" in command(capsys, "dns", "remove", "--root", str(root)).text


def test_what_others_wrote_into_the_file_is_shown_and_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are not UTF-8 and control characters are escaped, as text and in JSON; the file keeps every byte."""
    file, config = root / "etc/resolv.conf", root / "config.toml"
    foreign = b"# M\xfcller \x1b]0;x\x07\nnameserver\t192.0.2.1\nnameserver 192.0.2.\xe9\n"
    shown = ["# M\\xfcller \\x1b]0;x\\x07", "nameserver\t192.0.2.1", "nameserver 192.0.2.\\xe9"]
    file.write_bytes(foreign)
    config.write_text('dns = "127.0.0.154:53"\n')
    words = ("--root", str(root), "--config", str(config))
    for flags in (["--dry-run"], ["--dry-run", "--json"], []):
        done = command(capsys, "dns", "install", *flags, *words)
        lines = done.json["diff"] if "--json" in flags else [line[2:] for line in done.text.splitlines()]
        assert (done.code, [line[2:] for line in lines if line[2:] in shown]) == (0, shown)
    assert file.read_bytes().endswith(foreign)
    assert command(capsys, "dns", "status", *words, "--json").json["nameservers"][-1] == "192.0.2.\\xe9"
    assert "192.0.2.\\xe9" in command(capsys, "dns", "status", *words).text
    file.write_bytes(file.read_bytes() + b"nameserver 192.0.2.3\nnameserver \x9b\xff\n")
    warned = command(capsys, "dns", "install", *words).text
    assert "warning: nameserver \\x9b\\xff is ignored" in warned
    removed = command(capsys, "dns", "remove", "--json", "--root", str(root))
    assert (removed.code, file.read_bytes().startswith(foreign)) == (0, True)


def test_status_of_the_resolver(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether it answers, whether it is installed, and who is asked in which order."""
    config = root / "config.toml"
    config.write_text('dns = "127.0.0.154:53"\n')
    words = ("dns", "status", "--root", str(root), "--config", str(config))
    text = command(capsys, *words).text
    assert "Resolver:     127.0.0.154:53\n" in text
    assert "Installed:    no; run `macvlan-global dns install`\n" in text
    assert "Nameservers:  192.0.2.1, 192.0.2.2, 192.0.2.3\n" in text
    command(capsys, "dns", "install", "--root", str(root))
    found = command(capsys, *words, "--json").json
    assert (found["installed"], found["nameservers"][0]) == (True, "127.0.0.153")
    assert found["warnings"][-1] == "127.0.0.153 is installed, and the resolver is on 127.0.0.154; run install again"


@pytest.mark.parametrize(
    ("text", "said"), [('dns = ""\n', "the resolver is off"), ('dns = "127.0.0.1:5353"\n', "engines ask port 53 only")]
)
def test_a_resolver_that_engines_cannot_ask(
    root: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """It is not installed."""
    (root / "config.toml").write_text(text)
    done = command(capsys, "dns", "install", "--root", str(root), "--config", str(root / "config.toml"))
    assert done.code == 1
    assert said in done.error
    assert (root / "etc/resolv.conf").read_text() == PLAIN


def test_a_file_that_somebody_wrote_anew_says_who(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tailscale writes it whenever it connects: our block is gone, and the status says why."""
    command(capsys, "dns", "install", "--root", str(root))
    head = "# resolv.conf(5) file generated by tailscale\n# DO NOT EDIT THIS FILE BY HAND\n"
    (root / "etc/resolv.conf").write_text(head + "nameserver 100.100.100.100\n")
    found = command(capsys, "dns", "status", "--root", str(root), "--json").json
    assert found["installed"] is False
    (warning,) = found["warnings"]
    assert warning.startswith("tailscale generates this file")
    assert "tailscale set --accept-dns=false" in warning
