"""`macvlan-global page`: the address of the page, and the ways to it from another machine."""

from typing import Annotated

import typer

from macvlan_global.admin.messages import PageView
from macvlan_global.cli.options import AdminSocketFlag, ConfigFlag, JsonFlag, driver_at, example
from macvlan_global.cli.waiting import Waiting

EXAMPLE = example("macvlan-global page", "macvlan-global page --open")

OpenFlag = Annotated[bool, typer.Option("--open", help="explain tunnels and tokens")]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("page", epilog=EXAMPLE)(page)


def page(
    *,
    open_: OpenFlag = False,
    json: JsonFlag = False,
    admin_socket: AdminSocketFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Print the address of the page of this host.

    The page shows networks, hosts, addresses and problems, live, in a browser. `page` in the configuration turns it on.
    An address beyond loopback needs a token, which is part of what is printed.
    """
    with Waiting("asking the driver"):
        found = driver_at(admin_socket, config).page()
    if json:
        # imported here: rich costs a quarter of the start, and an error needs none of it
        from macvlan_global.cli import render  # noqa: PLC0415

        render.print_json(found)
        return
    print(url(found))
    if open_:
        print(_explained(found))


def url(found: PageView) -> str:
    """The address for a browser. The token is in its fragment, which browsers send nowhere."""
    return f"http://{found.address}/" + (f"#token={found.token}" if found.token else "")


def _explained(found: PageView) -> str:
    host, _, port = found.address.rpartition(":")
    if not found.token:
        return f"""
From another machine, by a tunnel, for as long as this command runs there:

  ssh -N -L {port}:{found.address} root@{found.host}

then open http://127.0.0.1:{port}/ there. Whoever can log in on this host can read the page."""
    return f"""
The token after # is the password of the page; it is the same until page-token in the state folder is deleted and the
driver is restarted. The page has no TLS: whoever reads the wire reads the token. A tunnel hides both:

  ssh -N -L {port}:{found.address} root@{found.host}

then open the address above with 127.0.0.1:{port} in place of {host}:{port}."""
