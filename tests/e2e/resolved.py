"""systemd-resolved on a host of the lab: unpacked beside the system, and run without D-Bus."""

from lab import Host
from lab.apt import unpack
from lab.paths import BUILD
from lab.process import tail, wait_until

PROGRAM = "lib/systemd/systemd-resolved"
LINK = "../run/systemd/resolve/stub-resolv.conf"
_TREE = BUILD / "resolved"
_PACKAGES = ("systemd-resolved", "libsystemd-shared")


def start_resolved(host: Host, server: str) -> None:
    """Run it with one server behind it, and make /etc/resolv.conf the link that it wants."""
    unpack("bookworm", _PACKAGES, _TREE)
    script = (
        "getent passwd systemd-resolve || useradd --system systemd-resolve; mkdir -p /run/systemd /etc/systemd; "
        f"printf '[Resolve]\\nDNS={server}\\nLLMNR=no\\nMulticastDNS=no\\nDNSSEC=no\\n' > /etc/systemd/resolved.conf; "
        f"ln -sf {LINK} /etc/resolv.conf"
    )
    host.run(["sh", "-c", script])
    log = host.folder / "resolved.log"
    libraries = f"{_TREE}/usr/lib/x86_64-linux-gnu/systemd"
    host.popen([str(_TREE / PROGRAM)], log=log, env={"LD_LIBRARY_PATH": libraries})
    files = [host.run_folder / "systemd/resolve" / name for name in ("stub-resolv.conf", "resolv.conf")]
    wait_until(lambda: all(each.exists() for each in files), "systemd-resolved", explain=lambda: tail(log))
