"""A conflict as operators see it: the command, status, doctor's facts and metrics, from a running daemon."""

import asyncio
import re
from pathlib import Path

import pytest

from lab.process import wait_until
from macvlan_global.admin.client import AdminClient
from tests.unit.conflicts.wire import DEVICE, announced
from tests.unit.running import LAN, Running, free_address, running, with_networks


async def test_a_conflict_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By `conflicts` as a table and as JSON, in status and by metrics; the parents that are watched are named."""
    async with running(tmp_path, capsys) as daemon:
        await with_networks(daemon)
    async with running(tmp_path, capsys, metrics=free_address()) as daemon:
        assert (await daemon.cli("conflicts")).rows == [
            ["ADDRESS", "HOLDER", "MAC", "PARENT", "FRAMES", "FIRST", "LAST", "DEVICE"]
        ]
        await _seen(daemon)
        (row,) = (await daemon.cli("conflicts")).rows[1:]
        assert (row[0], row[3], row[-1]) == ("10.65.0.9", "eth1", f"{DEVICE} announces it")
        (found,) = (await daemon.cli("conflicts", "--json")).json
        assert (found["address"], found["kind"], found["mac"]) == ("10.65.0.9", "container", DEVICE)
        assert found["current"] is True
        assert found["network"] in {LAN[:12], "lan"}  # if the driver has learnt its name by then
        status = (await daemon.cli("status", "--json")).json
        assert "eth1" in status["watch"]["parents"]
        assert status["watch"]["conflicts"] == [each for each in status["problems"] if DEVICE in each]
        assert f"is in conflict on eth1: {DEVICE}" in (await daemon.cli("status")).text
        told = [_frames(await daemon.metrics()) for _ in range(2)]
        (later,) = (await daemon.cli("conflicts", "--json")).json
        assert 0 < found["count"] <= told[0] <= told[1] <= later["count"]
        assert "macvlan_global_conflicts 1.0" in await daemon.metrics()


def _frames(metrics: str) -> int:
    found = re.search(r'^macvlan_global_conflict_frames_total\{holder="container"\} (.*)\.0$', metrics, re.MULTILINE)
    assert found
    return int(found[1])


async def _seen(daemon: Running) -> None:
    watched, client = daemon.kernel.watched, AdminClient(daemon.config.admin_socket)
    loop = asyncio.get_running_loop()

    def is_shown() -> bool:  # a frame within a second of the container's start may be of the holder before
        loop.call_soon_threadsafe(watched["eth1"].put, announced("10.65.0.9"))
        return bool(client.conflicts())

    await asyncio.to_thread(wait_until, lambda: "eth1" in watched, "the watch", seconds=60)
    await asyncio.to_thread(wait_until, is_shown, "the conflict", seconds=60, every=0.2)


async def test_without_the_watch_nothing_is_listened_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`conflict_watch = false`: the command says so, and status has none."""
    async with running(tmp_path, capsys, conflict_watch=False) as daemon:
        await with_networks(daemon)
        said = await daemon.cli("conflicts")
        assert (said.code, said.error) == (
            1,
            "conflicts are not watched for on this host; remove conflict_watch = false from the configuration",
        )
        assert (await daemon.cli("status", "--json")).json["watch"] is None
        assert daemon.kernel.watched == {}
