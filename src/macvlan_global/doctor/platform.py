"""Hypervisors and clouds that drop frames of containers, with the setting that makes them pass.

A macvlan link has a MAC of its own. Many virtual switches deliver only to the MACs that they gave out themselves, so
containers reach each other on the host and nothing beyond, and no error says so.
"""

from macvlan_global.doctor.facts import EngineFacts, PlatformFacts
from macvlan_global.doctor.findings import Finding, Level

CHECK = "platform"
DROPS = "drops frames from MACs that it did not assign, unless configured otherwise"

# a word in DMI's vendor and product -> level, what it does, what to do; the first that fits counts
_TRAPS: tuple[tuple[str, Level, str, str], ...] = (
    # clouds first: some of them show their hypervisor's name beside their own
    *(
        (
            word,
            "warning",
            f"{name} drops frames from MACs that it did not assign, and no setting changes that",
            "containers reach each other within this machine only; use the cloud's own addresses for containers",
        )
        for word, name in (
            ("amazon", "Amazon EC2"),
            ("google", "Google Cloud"),
            ("digitalocean", "DigitalOcean"),
            ("hetzner", "Hetzner Cloud"),
            ("alibaba", "Alibaba Cloud"),
            ("oraclecloud", "Oracle Cloud"),
            ("linode", "Akamai"),
        )
    ),
    (
        "openstack",
        "warning",
        "OpenStack's port security drops frames from MACs that it did not assign",
        "openstack port set --no-security-group --disable-port-security PORT, for the port of the parent",
    ),
    (
        "virtualbox",
        "warning",
        f"VirtualBox {DROPS}",
        "in the machine's network settings: a bridged adapter, with Promiscuous Mode set to Allow All",
    ),
    (
        "vmware",
        "warning",
        f"VMware {DROPS}",
        "on the port group allow promiscuous mode, forged transmits and MAC address changes (or turn MAC learning on)",
    ),
    (
        "microsoft corporation virtual",
        "warning",
        f"Hyper-V {DROPS}",
        "Set-VMNetworkAdapter -VMName NAME -MacAddressSpoofing On; Azure has no such setting",
    ),
    ("parallels", "note", "Parallels passes foreign MACs on bridged networks only", "use a bridged network"),
    (
        "xen",
        "note",
        "Xen may be configured to drop frames from MACs that it did not assign",
        "see that port locking is off",
    ),
)


def examine_platform(platform: PlatformFacts, engine: EngineFacts) -> list[Finding]:
    """One finding, or one for each thing that stands between a container and the LAN."""
    found = []
    if "docker desktop" in engine.system.lower():
        found.append(_hidden("Docker Desktop runs the engine in a virtual machine of its own"))
    elif platform.wsl:
        found.append(_hidden("this is the Windows Subsystem for Linux, a virtual machine behind NAT"))
    if platform.container:
        seen = "this command runs inside a container, so links and modules are the container's"
        found.append(Finding("note", CHECK, seen, "run it on the host to see the host"))
    return found or [_machine(f"{platform.vendor} {platform.product}".strip())]


def _hidden(seen: str) -> Finding:
    do = "run engine and driver on a Linux machine, or in a virtual machine with a bridged adapter"
    return Finding("error", CHECK, f"{seen}: its containers cannot be neighbours of your LAN", do)


def _machine(name: str) -> Finding:
    for word, level, trap, do in _TRAPS:
        if word in name.lower():
            return Finding(level, CHECK, f"{name}: {trap}", do)
    return Finding(
        "ok", CHECK, f"{name}: no MAC filter known" if name else "no hypervisor detected: no MAC filter known"
    )
