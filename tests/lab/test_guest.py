"""The guest kernel: boots without a terminal, has what it is for, and keeps its disk."""

import subprocess
import sys
from pathlib import Path

import pytest

from lab import LabError, guest_run, leftovers, make_disk, reap_leftovers
from lab.guest import Silence
from lab.paths import GUESTS, PREFIX, ROOT

SCRIPT = """
import sys
from lab import ENGINES, Host, Wire, in_guest, kernel_has
from lab.speed import SLOWNESS
assert in_guest() and SLOWNESS > 1
assert all(map(kernel_has, ("8021q", "dummy", "macvlan", "bond", "ipvlan")))
lan = ("-d", "macvlan", "--subnet=10.65.0.0/24", "-o", "parent=eth1.65", "lan")
with Wire() as wire, Host("a") as a, Host("b") as b:
    for host, label in zip((a, b), ENGINES):
        wire.plug(host)
        host.start_engine(label)
        host.docker("network", "create", *lan)
    a.docker("run", "-d", "--init", "--network=lan", "--ip=10.65.0.11", "alpine", "sleep", "600")
    ping = ("ping", "-c1", "-W2", "10.65.0.11")
    print(b.docker("run", "--rm", "--network=lan", "--ip=10.65.0.12", "alpine", *ping))
"""


def test_containers_on_a_vlan_reach_each_other_in_the_guest() -> None:
    """The same hosts and engines work there, with the sub-interfaces missing outside."""
    result = guest_run([sys.executable, "-c", SCRIPT], timeout=180)
    assert "1 packets received" in result.output
    assert result.returncode == 0


def test_exit_code_results_and_environment_pass_the_border() -> None:
    """Results come out through /mnt/out; all else that is written stays inside."""
    program = "echo said $WORD; echo $WORD > /mnt/out/result; touch /etc/lab-guest lab/guest-was-here; exit 7"
    result = guest_run(["sh", "-c", program], env={"WORD": "it's"}, timeout=60)
    assert result.returncode == 7
    assert "said it's\n" in result.output
    assert (result.out / "result").read_text() == "it's\n"
    assert not Path("/etc/lab-guest").exists()


def test_a_disk_keeps_what_was_written_over_two_boots(tmp_path: Path) -> None:
    """What a reboot keeps can be tested: the first boot writes, the second reads."""
    disk = make_disk(tmp_path / "disk.img", size="32M")
    assert guest_run(["sh", "-c", "echo kept > /mnt/disk/file"], disk=disk, timeout=60).returncode == 0
    assert "kept" in guest_run(["cat", "/mnt/disk/file"], disk=disk, timeout=60).output


def test_a_guest_that_hangs_is_ended() -> None:
    """The time limit holds, and no process of the guest survives it."""
    before = set(GUESTS.glob(f"{PREFIX}*"))
    with pytest.raises(LabError, match="within 4 s"):
        guest_run(["sleep", "600"], timeout=4)
    (folder,) = set(GUESTS.glob(f"{PREFIX}*")) - before
    assert leftovers.processes(folder.name) == []


def test_a_guest_that_goes_on_saying_something_is_not_ended() -> None:
    """The limit is on silence: work takes longer than it, and is done; then nothing is said, and that ends."""
    talks = "for i in 1 2 3 4 5 6 7 8; do printf .; sleep 1; done; echo said; exec sleep 600"
    with pytest.raises(LabError, match=r"said nothing for 6 s(.|\n)*\.{8}said"):
        guest_run(["sh", "-c", talks], timeout=Silence(6))


def test_the_guest_of_a_killed_run_is_reaped() -> None:
    """A guest outlives a maker that is killed, and ends with the next run's reaping."""
    script = "from lab import guest_run; guest_run(['sh', '-c', 'echo up; sleep 600'])"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as maker:
        assert maker.stdout is not None
        assert any(line == "up\n" for line in maker.stdout)
        (folder,) = GUESTS.glob(f"{PREFIX}{maker.pid}-*")
        maker.kill()
    assert leftovers.processes(folder.name) != []
    assert folder.name in reap_leftovers()
    assert leftovers.processes(folder.name) == []
    assert not folder.exists()
