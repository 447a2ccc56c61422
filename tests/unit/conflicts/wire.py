"""Frames of devices on a segment, for tests."""

from ipaddress import ip_address

from macvlan_global.kernel.arp_ndp import advertisement, probe

DEVICE, ROUTER = "02:00:5e:00:00:99", "02:00:5e:00:00:01"


def announced(address: str, mac: str = DEVICE) -> bytes:
    """A device announces an address."""
    return advertisement(ip_address(address), bytes.fromhex(mac.replace(":", "")))


def probed(address: str, mac: str = DEVICE, *, by_a_driver: bool = False) -> bytes:
    """A device probes for an address, or a driver does."""
    frame = probe(ip_address(address), bytes.fromhex(mac.replace(":", "")))
    return frame if by_a_driver else frame[:42] if ":" not in address else frame[:78] + bytes((14, 1)) + b"random"
