"""Configuration: where a value comes from, and what is refused."""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal

import pytest

from macvlan_global.config import FLAGS, Config, StoreAccessConfig, load_access, load_config
from macvlan_global.errors import Invalid
from macvlan_global.ipam.auto_pool import DEFAULT_AUTO_POOLS, AutoPool


def _file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return file


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    """And they are enough to serve."""
    config = load_config(_file(tmp_path, ""), {}, {})
    assert config == Config()
    assert config.effective_scope() == "local"
    assert config.effective_host_name()
    assert config.pools() == DEFAULT_AUTO_POOLS


def test_the_command_line_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    """Key by key."""
    file = _file(tmp_path, 'log_level = "error"\nhost_name = "file"\nsocket = "/file"\n')
    environment = {"MACVLAN_GLOBAL_HOST_NAME": "environment", "MACVLAN_GLOBAL_SOCKET": "/environment"}
    config = load_config(file, environment, {"socket": "/flag", "host_name": None})
    assert (config.log_level, config.host_name, config.socket) == ("error", "environment", "/flag")


@pytest.mark.parametrize("key", FLAGS)
def test_every_key_can_come_from_each_place(tmp_path: Path, key: str) -> None:
    """The same name everywhere."""
    words = {"scope": "global", "log_level": "debug", "log_format": "json", "metrics": "[::1]:9477", "dns": "[::1]:53"}
    words |= {"page": "[::1]:8153", "dns_networks": "all"}
    words |= {
        "docker_host": "tcp://10.0.0.1:2375",
        "socket": "/run/x.sock",
        "admin_socket": "/run/y.sock",
        "state_dir": "/srv/x",
    }
    words |= {"host_access_addresses": "10.8.0.250, fd18::250"}
    words |= {"probe": "true", "host_access": "true", "conflict_watch": "false", "attach": "direct"}
    value = words.get(key, "7")
    is_number = key in {"repair_grace", "dns_ttl", "host_grace"}
    is_flag = key in {"probe", "host_access", "conflict_watch"}
    expected = 7.0 if is_number else value == "true" if is_flag else value
    written = value if is_number or is_flag else f'"{value}"'
    from_file = load_config(_file(tmp_path, f"{key} = {written}"), {}, {})
    from_environment = load_config(_file(tmp_path, ""), {f"MACVLAN_GLOBAL_{key.upper()}": value}, {})
    from_flag = load_config(_file(tmp_path, ""), {}, {key: value})
    assert {getattr(each, key) for each in (from_file, from_environment, from_flag)} == {expected}


def test_aliases_and_auto_pools_come_from_the_file(tmp_path: Path) -> None:
    """They have no place elsewhere."""
    text = '[parents]\nuplink = "bond0, eth1"\n[[auto_pools]]\nbase = "10.8.0.0/16"\nsize = 24\n'
    config = load_config(_file(tmp_path, text), {}, {})
    assert config.parents == {"uplink": "bond0, eth1"}
    assert config.pools() == (AutoPool(ip_network("10.8.0.0/16"), 24),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('sockt = "/x"', "did you mean 'socket'"),
        ("zzz = 1", "known: scope, store"),
        ("socket = 7", "socket = 7"),
        ('scope = "galaxy"', "scope = 'galaxy'"),
        ('log_level = "loud"', "log_level = 'loud'"),
        ('repair_grace = "soon"', "repair_grace"),
        ("repair_grace = -1", "repair_grace"),
        ("repair_grace = nan", "repair_grace"),
        ("repair_grace = inf", "repair_grace"),
        ("dns_ttl = -1", "dns_ttl"),
        ("host_grace = inf", "host_grace"),
        ('dns = "127.0.0.153:"', "use for example 127.0.0.153:53"),
        ('metrics = "9477"', "HOST:PORT"),
        ('metrics = "127.0.0.1:0"', "HOST:PORT"),
        ('metrics = "127.0.0.1:65536"', "HOST:PORT"),
        (f'metrics = "127.0.0.1:{"9" * 5000}"', "HOST:PORT"),
        ('host_access_addresses = "10.8.0.250/24"', "host_access_addresses: '10.8.0.250/24' is not an IP address"),
        ('host_access_addresses = "10.8.0.250/24"', "use 10.8.0.250"),
        ('host_access_addresses = "10.8.0.250,"', "'' is not an IP address; use for example 192.168.1.250"),
        ('host_access_addresses = "fe80::1%eth0"', "fe80::1%eth0 is not an address of a subnet"),
        ('host_access_addresses = "127.0.0.1"', "127.0.0.1 is not an address of a subnet"),
        ('host_access_addresses = ["10.8.0.250"]', "host_access_addresses"),
        ('state_dir = "state"', "state_dir = 'state' ("),
        ('state_dir = "state"', "is not an absolute path; use for example /var/lib/macvlan-global"),
        ('state_dir = ""', "state_dir = '' ("),
        ('socket = "./x.sock"', "socket = './x.sock' ("),
        ('admin_socket = "~/x.sock"', "use for example /run/macvlan-global/admin.sock"),
        ('[store_access]\ntoken_file = "mg/token"', "[store_access] token_file = 'mg/token' ("),
        ('[store_access]\nca = "ca.pem"', "is not an absolute path; use for example /etc/macvlan-global/ca.pem"),
        (
            'store = "sqlite://a.db"',
            "names no absolute path; use for example sqlite:///var/lib/macvlan-global/state.db",
        ),
        ('parents = "eth0"', "parents"),
        ('[parents]\nuplink = ["eth0"]', "parents"),
        ('[[auto_pools]]\nbase = "10.8.0.1/16"\nsize = 24', "base = '10.8.0.1/16'"),
        ('[[auto_pools]]\nbase = "10.8.0.0/16"\nsize = 15', "size = 15"),
        ('[[auto_pools]]\nbase = "10.8.0.0/16"\nsize = 33', "size = 33"),
        ('[[auto_pools]]\nbase = "10.8.0.0/16"', "auto_pools"),
        ('[[auto_pools]]\nbase = "10.8.0.0/16"\nsize = 24\nspace = "x"', "auto_pools"),
        ("= 1", "is not TOML"),
    ],
)
def test_a_file_that_is_not_right_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """The error names the key or the file."""
    with pytest.raises(Invalid) as refused:
        load_config(_file(tmp_path, text), {}, {})
    assert words in str(refused.value)


def test_the_error_says_where_a_bad_value_came_from(tmp_path: Path) -> None:
    """File, variable or flag."""
    empty = _file(tmp_path, "")
    with pytest.raises(Invalid, match="MACVLAN_GLOBAL_LOG_LEVEL"):
        load_config(empty, {"MACVLAN_GLOBAL_LOG_LEVEL": "loud"}, {})
    with pytest.raises(Invalid, match="--log-level"):
        load_config(empty, {}, {"log_level": "loud"})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that was named must be there, be a file, and be text."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, words in (("nosuch", "cannot be read"), ("", "cannot be read"), ("binary", "is not TOML")):
        with pytest.raises(Invalid, match=words):
            load_config(tmp_path / name, {}, {})


@pytest.mark.parametrize(
    ("store", "scope", "expected", "shared", "unused"),
    [
        ("sqlite", "", "local", False, ""),
        ("sqlite", "global", "global", False, ""),
        ("sqlite:///srv/a.db", "local", "local", False, ""),
        ("consul://10.0.0.1:8500", "", "global", True, ""),
        ("etcd+https://10.0.0.1:2379", "", "global", True, ""),
        ("etcd://10.0.0.1:2379", "local", "local", False, "etcd://10.0.0.1:2379"),
        ("consul://10.0.0.1:8500", "swarm", "swarm", False, "consul://10.0.0.1:8500"),
        ("etcd://mg:s3cret@10.0.0.1/a", "local", "local", False, "etcd://10.0.0.1/a"),
    ],
)
def test_the_scope_is_what_fits_the_store(
    store: str, scope: Literal["", "local", "global", "swarm"], expected: str, shared: bool, unused: str
) -> None:
    """Unless it is given; a host that is local by wish shares nothing, and uses its own file."""
    config = Config(store=store, scope=scope)
    assert (config.effective_scope(), config.is_shared()) == (expected, shared)
    assert (config.unused_store(), config.used_store()) == (unused, "sqlite" if unused else store)


@pytest.mark.parametrize(
    ("store", "file"),
    [
        ("sqlite", "/srv/mg/state.db"),
        ("consul://10.0.0.1:8500", "/srv/mg/state.db"),
        ("sqlite:///data/a.db", "/data/a.db"),
        ("memory:", None),
    ],
)
def test_the_state_file_of_a_host(store: str, file: str | None) -> None:
    """It is in the state folder unless the store names it, also beside a cluster store; memory has none."""
    assert Config(store=store, state_dir="/srv/mg").state_file() == (Path(file) if file else None)


def test_secrets_come_from_files_or_the_environment(tmp_path: Path) -> None:
    """The environment wins; nothing shows them."""
    (tmp_path / "token").write_text("  s3cret\n")
    given = StoreAccessConfig(token_file=str(tmp_path / "token"), ca="/etc/ca.pem", user="mg")
    access = load_access(given, {})
    assert (access.token, access.ca, access.user) == ("s3cret", Path("/etc/ca.pem"), "mg")
    assert load_access(given, {"MACVLAN_GLOBAL_STORE_TOKEN": "other"}).token == "other"  # noqa: S105
    assert load_access(given, {"MACVLAN_GLOBAL_STORE_PASSWORD": "pw"}).password == "pw"  # noqa: S105
    assert "s3cret" not in repr(access)


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), (b"", "is empty"), (b"\xff", "not text")])
def test_a_secret_that_cannot_be_read_is_told_by_its_key(tmp_path: Path, content: bytes | None, words: str) -> None:
    """With the path, and why."""
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Invalid, match=words) as refused:
        load_access(StoreAccessConfig(password_file=str(file)), {})
    assert f"[store_access] password_file = {str(file)!r}" in str(refused.value)
