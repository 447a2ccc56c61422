"""The reference pages name everything that there is."""

from pathlib import Path

import msgspec
import pytest

from macvlan_global.admin import messages
from macvlan_global.cli.app import app
from macvlan_global.cli.cmd_dns import DnsChange, DnsStatus
from macvlan_global.config import Config
from macvlan_global.doctor.findings import Finding, Report

DOCS = Path(__file__).resolve().parents[2] / "docs"
ANSWERS = (
    *(messages.Status, messages.NetworkView, messages.SubnetView, messages.AddressView, messages.ChoiceView),
    *(messages.HostView, messages.HostRemovalView, messages.KeptAddressView),
    *(messages.VerdictView, messages.RepairView, messages.CorrectionView, Report, Finding, DnsStatus, DnsChange),
)


@pytest.mark.parametrize("key", [field.name for field in msgspec.structs.fields(Config)])
def test_every_key_of_the_configuration_is_documented(key: str) -> None:
    """A row of docs/configuration.md begins with it."""
    rows = [
        line.split("|")[1].strip(" `[]") for line in (DOCS / "configuration.md").read_text().splitlines() if "|" in line
    ]
    assert key in rows


@pytest.mark.parametrize("name", [command.name for command in app.registered_commands])
def test_every_command_is_documented(name: str) -> None:
    """docs/cli.md has a heading with it."""
    headings = [line for line in (DOCS / "cli.md").read_text().splitlines() if line.startswith("## ")]
    assert any(name in heading.replace(",", "").split() for heading in headings)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.__name__)
def test_every_key_of_json_is_documented(answer: type[msgspec.Struct]) -> None:
    """docs/cli.md has each key of what `--json` prints in code quotes."""
    text = (DOCS / "cli.md").read_text()
    assert [field.name for field in msgspec.structs.fields(answer) if f"`{field.name}`" not in text] == []
