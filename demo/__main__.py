"""`python -m demo run` and `python -m demo stop`."""

import contextlib
import os
import shutil
import sys

from demo import engine, example, serving, wire
from demo.background import Background
from demo.errors import DemoError
from demo.places import FAILED, KEPT, PROGRAM, RUN, shown
from demo.screen import Screen
from lab.errors import LabError


def main() -> int:
    """Do what the command line says; 0 if it worked, 1 with one line on stderr if not."""
    actions = {"run": run, "stop": stop}
    if len(sys.argv) != 2 or sys.argv[1] not in actions:
        print("usage: python -m demo run|stop", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print(f"demo: interfaces and engines are root's; use `sudo make {sys.argv[1]}`", file=sys.stderr)
        return 1
    try:
        actions[sys.argv[1]](Screen())
    except (DemoError, LabError, OSError) as error:
        print(f"demo: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; nothing of it is left", file=sys.stderr)
        return 130
    return 0


def run(screen: Screen) -> None:
    """The whole example. Whatever an earlier run made is made anew; if this one fails, nothing of it is left."""
    try:
        _show(screen)
    except BaseException as error:
        _keep_logs()
        screen.plain("\nThat failed. Taking away what was made:")
        with contextlib.suppress(DemoError, LabError, OSError):
            stop(screen)
        if isinstance(error, DemoError) and FAILED.exists():
            raise DemoError(f"{error} (logs: {shown(FAILED)}/*.log)") from error
        raise


def _show(screen: Screen) -> None:
    with screen.step("A Docker Engine"):
        engine.ensure(screen)
    with screen.step("The driver, on SQLite"):
        serving.ensure(screen)
    example.check_names_are_free()
    if example.is_there():
        with screen.step("What an earlier run made goes"):
            example.remove(screen, image=False)
    subnet = wire.choose_subnet(wire.routed_subnets())
    with screen.step("A wire: a veth pair, its other end in a namespace, where a router would be"):
        if subnet != wire.SUBNETS[0]:
            screen.say(f"this machine has a route to {wire.SUBNETS[0]}, so {subnet} is used instead")
        wire.ensure(screen, subnet)
    with screen.step("A small image, made of busybox"):
        example.import_image(screen)
    with screen.step("A network, as in the first example of the driver's description"):
        example.create_network(screen, subnet)
    with screen.step("Two containers on it, one with an address of our choosing"):
        example.start_containers(screen, subnet)
    with screen.step("They reach each other by address and by name, and the router across the wire"):
        example.ping_each_other(screen, subnet)
    _say_what_next(screen)


def _say_what_next(screen: Screen) -> None:
    program = shown(PROGRAM)
    screen.plain(f"\nIt works, and took {screen.seconds():.1f} s. The driver goes on serving; its log: {serving.LOG}")
    screen.plain("\nTry next:")
    screen.command(f"{program} networks")
    screen.command(f"{program} addresses {example.NETWORK}")
    screen.command(f"docker run --rm --network={example.NETWORK} {example.IMAGE} ping -c 3 {example.CONTAINERS[0]}")
    if not engine.is_ours():
        screen.plain("\n(`docker` is the one of this machine's engine.)")
    screen.plain("\nTo take it all away:")
    screen.command("make stop")


def stop(screen: Screen) -> None:
    """Take away all that `run` made. Works on whatever is still there, and if nothing is."""
    nothing = not (RUN.exists() or KEPT.exists())
    if engine.serves() and shutil.which("docker"):
        if example.is_there():
            serving.ensure(screen)  # the engine can have its network removed only by a driver that runs
        example.remove(screen)
    serving.stop(screen)
    engine.stop(screen)
    wire.remove()
    for folder in (RUN, KEPT):
        shutil.rmtree(folder, ignore_errors=True)
    screen.plain("nothing to take away" if nothing else "all that `make run` made is gone")


def _keep_logs() -> None:
    logs = [log for log in (Background("driver").log, Background("dockerd").log) if log.exists()]
    if logs:
        FAILED.mkdir(parents=True, exist_ok=True)
    for log in logs:
        shutil.copy(log, FAILED / log.name)


if __name__ == "__main__":
    sys.exit(main())
