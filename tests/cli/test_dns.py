"""`macvlan-global dns`: what it shows, changes and refuses, below another root."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PLAIN = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host's files with three nameservers."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text(PLAIN)
    return tmp_path


def _dns(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "macvlan_global", "dns", *arguments, "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _config(root: Path, text: str) -> str:
    (root / "config.toml").write_text(text)
    return f"--config={root / 'config.toml'}"


def test_install_and_remove_say_what_they_change(root: Path) -> None:
    """Line by line, with what is lost by it and what is left to do; a dry run says the same and does nothing."""
    dry = _dns(root, "install", "--dry-run")
    assert dry.stdout.startswith(f"would change: {root}/etc/resolv.conf\n  + # macvlan-global: begin")
    assert (root / "etc/resolv.conf").read_text() == PLAIN
    done = _dns(root, "install")
    assert "\n  + nameserver 127.0.0.153\n" in done.stdout
    assert "\nwarning: nameserver 192.0.2.3 is ignored: only the first 3 are used\n" in done.stdout
    assert done.stdout.endswith("restart those that run. The engine needs no restart.\n")
    assert _dns(root, "install").stdout.startswith(f"{root}/etc/resolv.conf is up to date\n")
    assert "\n  - nameserver 127.0.0.153\n" in _dns(root, "remove").stdout
    assert (root / "etc/resolv.conf").read_text() == PLAIN
    assert _dns(root, "remove").stdout == f"{root}/etc/resolv.conf is up to date\n"


def test_status_shows_resolver_and_file(root: Path) -> None:
    """Before and after; a driver that does not run is told, and is no failure of the command."""
    config = _config(root, 'dns = "127.0.0.154:53"\n')
    before = _dns(root, "status", config).stdout
    assert "Resolver:     127.0.0.154:53\nState:        does not answer\n" in before
    assert "no; run `macvlan-global dns install`" in before
    _dns(root, "install", config)
    found = json.loads(_dns(root, "status", config, "--json").stdout)
    assert (found["installed"], found["nameservers"][:2]) == (True, ["127.0.0.154", "192.0.2.1"])
    assert json.loads(_dns(root, "status", "--json").stdout)["warnings"][-1].endswith("run install again")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('dns = ""\n', "the resolver is off on this host"),
        ('dns = "127.0.0.153:5353"\n', "engines ask port 53 only"),
    ],
)
def test_a_resolver_that_engines_cannot_ask_is_not_installed(root: Path, config: str, said: str) -> None:
    """The error is one line, and nothing is changed."""
    done = _dns(root, "install", _config(root, config))
    assert (done.returncode, said in done.stderr, done.stderr.count("\n")) == (1, True, 1)
    assert (root / "etc/resolv.conf").read_text() == PLAIN
