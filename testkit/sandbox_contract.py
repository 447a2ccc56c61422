"""Contract of the kernel port for links inside containers, beside `kernel_contract`."""

from macvlan_global.errors import Conflict, NotFound
from macvlan_global.kernel.ports import ContainerLink, InterfaceConfig, MacvlanSpec
from testkit.kernel_contract import MAC, OTHER_MAC, Check, KernelRig, refused, spec


async def a_link_in_a_container_is_found_by_its_mac_and_deleted(rig: KernelRig) -> None:
    """And only that one; a second time there is nothing to delete."""
    await rig.kernel.add_macvlan(spec(rig))
    await rig.move("m0")
    assert await rig.kernel.link("m0") is None
    assert await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, MAC))
    assert not await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, OTHER_MAC))
    assert not await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, OTHER_MAC))
    assert await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, MAC))
    assert not await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, MAC))
    assert not await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, MAC))


async def a_plain_link_is_known_by_its_alias_whatever_its_mac(rig: KernelRig) -> None:
    """Containers may set another MAC; that of another link does not lead to it."""
    await rig.kernel.add_macvlan(spec(rig, "mg-a"))
    await rig.move("mg-a")
    await rig.set_mac("mg-a", OTHER_MAC)
    assert await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, MAC, "mg-a"))
    assert await rig.kernel.mac_in_sandbox(ContainerLink(rig.sandbox, MAC, "mg-a")) == OTHER_MAC
    assert not await rig.kernel.mac_in_sandbox(ContainerLink(rig.sandbox, MAC, "mg-b"))
    assert not await rig.kernel.mac_in_sandbox(ContainerLink("/nosuch/namespace", MAC, "mg-a"))
    assert await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, OTHER_MAC, "mg-b")) is False
    assert await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, MAC, "mg-a"))


async def a_link_without_our_alias_is_marked_once(rig: KernelRig) -> None:
    """It is known by its MAC until then. One that has an alias keeps it."""
    await rig.kernel.add_macvlan(spec(rig))
    await rig.move("m0")
    assert not await rig.kernel.mark_in_sandbox(ContainerLink(rig.sandbox, MAC, "mg-a"))
    assert not await rig.kernel.mark_in_sandbox(ContainerLink(rig.sandbox, OTHER_MAC, "mg-a"))
    assert not await rig.kernel.mark_in_sandbox(ContainerLink("/nosuch/namespace", MAC, "mg-a"))


async def of_two_links_with_one_mac_in_a_container_none_is_deleted(rig: KernelRig) -> None:
    """They belong to two networks, and the container stays on one of them."""
    for name in ("m0", "m1"):
        await rig.kernel.add_macvlan(spec(rig, name))
        await rig.move(name)
    assert not await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, MAC))
    assert await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, MAC))


async def a_namespace_that_is_not_there_holds_nothing(rig: KernelRig) -> None:
    """It went with its container, or never was one. One that is there may hold nothing, too."""
    assert await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, MAC)) is False
    for path in ("/nosuch/namespace", "", "/etc/passwd", "/"):
        assert await rig.kernel.find_in_sandbox(ContainerLink(path, MAC)) is None
        assert not await rig.kernel.delete_in_sandbox(ContainerLink(path, MAC))


async def a_mac_in_a_container_counts_on_the_parent(rig: KernelRig) -> None:
    """The wire is one, whatever the namespace; its name on the host is free again."""
    await rig.kernel.add_macvlan(spec(rig))
    await rig.kernel.set_up("m0")
    await rig.move("m0")
    await rig.kernel.add_macvlan(spec(rig))
    assert await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, MAC))


async def a_link_is_made_inside_a_container(rig: KernelRig) -> None:
    """Known there by its alias, whatever else has its MAC; the host's namespace never sees it."""
    made = await rig.kernel.add_in_sandbox(spec(rig), ContainerLink(rig.sandbox, MAC, "m0"), InterfaceConfig("lan"))
    assert made.name == "lan"
    assert await rig.kernel.link("m0") is None
    assert await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, MAC, "m0"))
    assert await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, "", "m0"))
    assert not await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, OTHER_MAC, "m1"))
    assert await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, "", "m0"))
    assert not await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, MAC, "m0"))


async def what_a_link_had_in_a_container_is_free_at_once(rig: KernelRig) -> None:
    """Its name there, and its MAC on the parent, though the kernel goes on freeing it for a while."""
    link = ContainerLink(rig.sandbox, MAC, "m0")
    for _ in range(5):
        await rig.kernel.add_in_sandbox(spec(rig), link, InterfaceConfig("lan"))
        assert await rig.kernel.delete_in_sandbox(link)
        assert not await rig.kernel.find_in_sandbox(link)
        await rig.kernel.add_macvlan(spec(rig))
        await rig.kernel.set_up("m0")
        assert await rig.kernel.delete("m0")


async def names_inside_a_container_are_counted(rig: KernelRig) -> None:
    """From 0, without gaps; who asks again gets what is there, and a name that is taken is a conflict."""
    for name, mac in (("mg-a", MAC), ("mg-b", OTHER_MAC), ("mg-b", OTHER_MAC)):
        made = await rig.kernel.add_in_sandbox(
            spec(rig, name, mac), ContainerLink(rig.sandbox, mac, name), InterfaceConfig("lan", numbered=True)
        )
        assert made.name == {"mg-a": "lan0", "mg-b": "lan1"}[name]
    third = spec(rig, "mg-c", "02:00:00:00:00:cc")
    assert "lan1 is taken" in await refused(
        Conflict,
        rig.kernel.add_in_sandbox(third, ContainerLink(rig.sandbox, third.mac, third.name), InterfaceConfig("lan1")),
    )
    assert await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, MAC, "mg-a"))
    made = await rig.kernel.add_in_sandbox(
        third, ContainerLink(rig.sandbox, third.mac, third.name), InterfaceConfig("lan", numbered=True)
    )
    assert made.name == "lan0"
    for name in ("mg-b", "mg-c"):
        assert await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, "", name))


async def a_link_inside_loses_its_addresses_and_stays(rig: KernelRig) -> None:
    """Until it is deleted; one that is not there cannot be."""
    await rig.kernel.add_in_sandbox(spec(rig), ContainerLink(rig.sandbox, MAC, "m0"), InterfaceConfig("lan"))
    assert await rig.kernel.flush_addresses(ContainerLink(rig.sandbox, alias="m0"))
    assert await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, MAC, "m0"))
    assert await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, MAC, "m0"))
    assert not await rig.kernel.flush_addresses(ContainerLink(rig.sandbox, alias="m0"))
    assert not await rig.kernel.flush_addresses(ContainerLink("/nosuch/namespace", alias="m0"))


async def two_links_inside_with_one_mac_are_told_apart(rig: KernelRig) -> None:
    """By their aliases. Without one, neither counts: it is another endpoint's."""
    await rig.kernel.add_in_sandbox(spec(rig, "mg-a"), ContainerLink(rig.sandbox, MAC, "mg-a"), InterfaceConfig("one"))
    assert not await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, MAC, "mg-b"))
    assert not await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, MAC))
    await rig.kernel.add_macvlan(spec(rig))
    await rig.move("m0")
    assert await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, MAC, "mg-b"))
    assert await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, MAC, "mg-a"))
    assert not await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, MAC))


async def a_mac_that_is_in_use_is_refused_inside_too(rig: KernelRig) -> None:
    """And the link that could not be set up is not left behind, on neither side."""
    await rig.kernel.add_macvlan(spec(rig, "m1"))
    await rig.kernel.set_up("m1")
    said = await refused(
        Conflict, rig.kernel.add_in_sandbox(spec(rig), ContainerLink(rig.sandbox, MAC, "m0"), InterfaceConfig("lan"))
    )
    assert "MAC" in said
    assert not await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, MAC, "m0"))
    assert await rig.kernel.link("m0") is None


async def without_a_namespace_no_link_is_made_inside(rig: KernelRig) -> None:
    """Engines before 28 make it only afterwards; why is told, and there is nothing to advertise."""
    made = await rig.kernel.add_in_sandbox(
        spec(rig), ContainerLink("/nosuch/namespace", MAC, "m0"), InterfaceConfig("lan")
    )
    assert (made.name, bool(made.why_not)) == ("", True)
    assert await rig.kernel.link("m0") is None
    assert not await rig.kernel.advertise(ContainerLink("/nosuch/namespace", MAC))
    assert not await rig.kernel.restore(ContainerLink("/nosuch/namespace", alias="m0"), InterfaceConfig("lan"))
    await refused(
        NotFound,
        rig.kernel.add_in_sandbox(
            MacvlanSpec("m0", "no", "bridge", MAC), ContainerLink("/no", MAC, "m0"), InterfaceConfig("x")
        ),
    )


SANDBOX_CONTRACT: tuple[Check, ...] = (
    a_link_in_a_container_is_found_by_its_mac_and_deleted,
    a_plain_link_is_known_by_its_alias_whatever_its_mac,
    a_link_without_our_alias_is_marked_once,
    of_two_links_with_one_mac_in_a_container_none_is_deleted,
    a_namespace_that_is_not_there_holds_nothing,
    a_mac_in_a_container_counts_on_the_parent,
    a_link_is_made_inside_a_container,
    what_a_link_had_in_a_container_is_free_at_once,
    names_inside_a_container_are_counted,
    a_link_inside_loses_its_addresses_and_stays,
    two_links_inside_with_one_mac_are_told_apart,
    a_mac_that_is_in_use_is_refused_inside_too,
    without_a_namespace_no_link_is_made_inside,
)
