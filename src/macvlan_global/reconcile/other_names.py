"""Networks of ours that the engine shows under another driver's name than ours: `driver_name` is not what the plugin is
called there.

The engine called this driver to create each network that has a record, under whatever name it knows the driver. So the
id proves whose it is, and a name that does not fit proves nothing.
"""

from collections.abc import Collection
from dataclasses import replace

from macvlan_global.engine.ports import Engine, EngineNetwork


async def by_other_names(engine: Engine, lacking: Collection[str]) -> tuple[EngineNetwork, ...]:
    """The networks of these ids that the engine has under other drivers' names, with their endpoints. `lacking` are
    those of records, without the networks that it shows as ours.

    Raises:
        Unavailable: the engine does not answer.
    """
    if not lacking:
        return ()
    names = sorted({each.name for each in await engine.every_network() if each.id in lacking})
    found = [each for each in [await engine.named(name) for name in names] if each]
    return tuple(one for each in found for one in (each, *each.twins) if one.id in lacking)


def as_ours(network: EngineNetwork) -> EngineNetwork:
    """It, as the engine would show it if `driver_name` were right: the plugin has one name for both its drivers."""
    ipam_driver = "" if network.ipam_driver == network.driver else network.ipam_driver
    return replace(network, driver="", ipam_driver=ipam_driver)


def problem_of(network: EngineNetwork) -> str:
    """The problem with a network that the engine shows under another name, with the next step."""
    return (
        f"the engine calls the driver of network {network.name} {network.driver}, and driver_name says otherwise: "
        f"networks, names and containers are not followed; set driver_name to {network.driver} (a managed plugin: "
        "MACVLAN_GLOBAL_DRIVER_NAME) and restart the driver"
    )
