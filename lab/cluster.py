"""Clusters of store members: places, processes, faults, and their end.

Each member is a process of its own with an address of its own and the ports that are usual for it: on the machine's
loopback, where all of 127.0.0.0/8 is ours, or on hosts of the lab, within their networks. Data lies below /run, so
members are as quick as memory; a `folder` on a disk makes them as slow as in real life.
"""

import abc
import contextlib
import http.client
import itertools
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from lab.certificates import Certificates, make_certificates
from lab.errors import LabError
from lab.leftovers import end_processes
from lab.packages import ensure_stores
from lab.paths import PREFIX, RUN
from lab.process import run, tail, wait_until

READY_SECONDS = 30.0
_numbers = itertools.count(1)


class Site(Protocol):
    """The host that a member runs on."""

    @property
    def namespace(self) -> str:
        """The name of the host's network namespace."""

    def in_network(self) -> contextlib.AbstractContextManager[None]:
        """Within it, sockets of this thread are the host's."""


@dataclass
class Member:
    """One member. `index` counts from 0; `site` is its host, or None for the machine's loopback."""

    index: int
    address: str
    site: Site | None
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def name(self) -> str:
        """Name of the member in its cluster."""
        return f"m{self.index}"

    @property
    def log(self) -> Path:
        """All that it says."""
        return self.folder.with_suffix(".log")

    @property
    def running(self) -> bool:
        """Whether its process is there; a paused one counts."""
        return self.process is not None and self.process.poll() is None


class Cluster(abc.ABC):
    """A cluster of real members, started and with a leader. Use as a context manager, or call `close`."""

    scheme: str
    port: int
    ports: tuple[int, ...]
    """All ports of a member on its address: they must be free."""

    def __init__(
        self,
        members: int = 1,
        *,
        on: Sequence[tuple[Site, str]] | None = None,
        tls: bool = False,
        folder: Path | None = None,
    ) -> None:
        """Start the members and return when each knows a leader.

        Args:
            members: how many, 1 or 3; with `on` it is the number of places.
            on: a host and its address (10.99.0.11, without a length) for each member, instead of the loopback.
            tls: clients must use TLS, with a certificate; see `certificates`.
            folder: where the data is kept; by default in memory.

        Raises:
            LabError: it did not come up; with the ends of the members' logs.
        """
        self._programs = ensure_stores()
        self.identity = f"{PREFIX}{os.getpid()}-{self.scheme}{next(_numbers)}"
        self.folder = RUN / self.identity
        # the name is what tells leftovers by their command line, wherever the data is
        home = (folder or RUN) / self.identity / "member"
        home.mkdir(parents=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        places: list[tuple[Site | None, str]] = list(on) if on else [(None, each) for each in self._loopbacks(members)]
        self.members = tuple(
            Member(index, address, site, home / f"m{index}") for index, (site, address) in enumerate(places)
        )
        self.certificates: Certificates | None = None
        try:
            if tls:
                self.certificates = make_certificates(self.folder / "tls", [each.address for each in self.members])
            self._prepare()
            for member in self.members:
                self._launch(member)
            self.wait_ready()
        except BaseException:
            self.close()
            raise

    def _loopbacks(self, count: int) -> list[str]:
        """Addresses of 127.0.0.0/8 on which nobody listens at our ports."""
        while True:
            # a number that guards nothing; clusters of one machine only must not meet
            first = f"127.{random.randrange(64, 128)}.{random.randrange(256)}"  # noqa: S311
            found = [f"{first}.{number}" for number in range(1, count + 1)]
            if all(_is_free(address, port) for address in found for port in self.ports):
                return found

    # --- for clients

    @property
    def endpoints(self) -> list[str]:
        """ADDRESS:PORT of each member, for clients."""
        return [f"{member.address}:{self.port}" for member in self.members]

    @property
    def url(self) -> str:
        """Argument of `--store`, with every member."""
        return self.url_through(self.endpoints)

    def url_through(self, endpoints: Iterable[str], prefix: str = "") -> str:
        """Argument of `--store` that leads through these addresses (of proxies, say), under a prefix of the keys."""
        scheme = f"{self.scheme}+https" if self.certificates else self.scheme
        return f"{scheme}://{','.join(endpoints)}" + (f"/{prefix}" if prefix else "")

    # --- faults

    def kill(self, index: int) -> None:
        """Crash a member; its data stays."""
        process = self._process(index)
        process.kill()
        process.wait()

    def start(self, *indexes: int) -> None:
        """Start members that were killed, with the data that they had, and return when they take part."""
        for index in indexes:
            self._launch(self.members[index])
        self.wait_ready()

    def pause(self, index: int) -> None:
        """Let a member stand still: it accepts connections and never answers."""
        self._process(index).send_signal(signal.SIGSTOP)

    def resume(self, index: int) -> None:
        """Let a paused member go on."""
        self._process(index).send_signal(signal.SIGCONT)

    def leader(self) -> int:
        """The index of the member that leads; waits until the running ones have one.

        Raises:
            LabError: there was none in time.
        """
        found: list[int] = []

        def look() -> bool:
            seen = (self._leader_seen_by(member) for member in self.members if member.running)
            # a member may still believe in one that was killed
            found[:] = [index for index in seen if index is not None and self.members[index].running]
            return bool(found)

        wait_until(look, f"leader of {self.identity}", seconds=READY_SECONDS, every=0.05, explain=self._logs)
        return found[0]

    def kill_leader(self) -> int:
        """Crash the member that leads; its index."""
        index = self.leader()
        self.kill(index)
        return index

    def wait_ready(self) -> None:
        """Return when every running member has a leader and answers."""
        waiting = [member for member in self.members if member.running]

        def ready() -> bool:
            waiting[:] = [member for member in waiting if member.running and not self._ready(member)]
            return not waiting

        started = len(waiting)
        wait_until(ready, f"answer from {self.identity}", seconds=READY_SECONDS, every=0.05, explain=self._logs)
        if sum(member.running for member in self.members) < started:
            raise LabError(f"a member of {self.identity} ended {self._logs()}")

    @abc.abstractmethod
    def save(self, file: Path) -> None:
        """Write a snapshot of all the data to a file."""

    @abc.abstractmethod
    def restore(self, file: Path) -> None:
        """Put a snapshot back, as an operator does; returns when the cluster serves again."""

    # --- what kinds differ in

    @abc.abstractmethod
    def _prepare(self) -> None:
        """Make what members need before they start."""

    @abc.abstractmethod
    def _command(self, member: Member) -> list[str]:
        """The command that is the member."""

    @abc.abstractmethod
    def _ready(self, member: Member) -> bool:
        """Whether it takes part in a cluster that has a leader."""

    @abc.abstractmethod
    def _leader_seen_by(self, member: Member) -> int | None:
        """The index of the leader this member believes in, if any."""

    # --- processes

    def _launch(self, member: Member) -> None:
        if member.running:
            raise LabError(f"{member.name} of {self.identity} runs already")
        inside = ["nsenter", f"--net=/run/netns/{member.site.namespace}", "--"] if member.site else []
        with member.log.open("ab") as log:
            member.process = subprocess.Popen(
                [*inside, *self._command(member)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )

    def _process(self, index: int) -> "subprocess.Popen[bytes]":
        process = self.members[index].process
        if process is None or process.poll() is not None:
            raise LabError(f"m{index} of {self.identity} does not run")
        return process

    def _call(self, program: str, *arguments: str, member: Member | None = None, env: dict[str, str]) -> str:
        """Run the store's own command line beside a member; what it printed."""
        site = (member or self.members[0]).site
        inside = ["nsenter", f"--net=/run/netns/{site.namespace}", "--"] if site else []
        return run([*inside, str(self._programs / program), *arguments], env=os.environ | env).stdout

    def ask(
        self, member: Member, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """An HTTP request to one member: status and JSON, or status 0 if it does not answer."""
        with contextlib.ExitStack() as stack:
            if member.site:
                stack.enter_context(member.site.in_network())
            if self.certificates:
                context = ssl.create_default_context(cafile=str(self.certificates.ca))
                context.load_cert_chain(self.certificates.certificate, self.certificates.key)
                connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                    member.address, self.port, timeout=2, context=context
                )
            else:
                connection = http.client.HTTPConnection(member.address, self.port, timeout=2)
            stack.callback(connection.close)
            try:
                connection.request(method, path, None if body is None else json.dumps(body), headers or {})
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):
                return 0, None
            try:
                return answer.status, json.loads(text)
            except ValueError:
                return answer.status, text.decode(errors="replace")

    def _logs(self) -> str:
        return "".join(f"\n--- end of {member.log}\n{tail(member.log, 10)}" for member in self.members)

    # --- the end

    def close(self) -> None:
        """End every member and forget the data. Repeatable."""
        for member in self.members:
            if member.process is not None:
                member.process.kill()
                member.process.wait()
        end_processes(self.identity)
        for folder in (self.folder, self.members[0].folder.parent.parent):
            shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Nothing to do: the cluster serves since it was made."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def paused(cluster: Cluster, index: int) -> Iterator[None]:
    """A member stands still within the block."""
    cluster.pause(index)
    try:
        yield
    finally:
        cluster.resume(index)
