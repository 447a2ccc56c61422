"""A real etcd cluster of one or more members."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.cluster import Cluster, Member, Site

PEER_PORT = 2380


class EtcdCluster(Cluster):
    """See `Cluster`. Elections take half a second.

    `progress` is the time, as etcd writes it, after which quiet watches that want it are told how far they are.
    """

    scheme = "etcd"
    port = 2379
    ports = (2379, PEER_PORT)

    def __init__(
        self,
        members: int = 1,
        *,
        on: Sequence[tuple[Site, str]] | None = None,
        tls: bool = False,
        folder: Path | None = None,
        progress: str = "10m",
    ) -> None:
        """See `Cluster`; `progress` is etcd's own by default."""
        self._progress = progress
        super().__init__(members, on=on, tls=tls, folder=folder)

    def _prepare(self) -> None:
        self._generation = 1

    @property
    def _initial(self) -> list[str]:
        peers = ",".join(f"{each.name}=http://{each.address}:{PEER_PORT}" for each in self.members)
        # a restored cluster is another cluster: members of the old one must not join it
        return [f"--initial-cluster={peers}", f"--initial-cluster-token={self.identity}-{self._generation}"]

    def _data(self, member: Member) -> Path:
        return member.folder / str(self._generation)

    def _command(self, member: Member) -> list[str]:
        scheme = "https" if self.certificates else "http"
        clients, peers = f"{scheme}://{member.address}:{self.port}", f"http://{member.address}:{PEER_PORT}"
        member.folder.mkdir(exist_ok=True)
        tls = []
        if self.certificates:
            tls = [
                "--client-cert-auth",
                f"--trusted-ca-file={self.certificates.ca}",
                f"--cert-file={self.certificates.member_certificate}",
                f"--key-file={self.certificates.member_key}",
            ]
        return [
            str(self._programs / "etcd"),
            f"--name={member.name}",
            f"--data-dir={self._data(member)}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            *self._initial,
            "--heartbeat-interval=50",
            "--election-timeout=500",
            "--logger=zap",
            "--log-level=warn",
            "--enable-v2=false",
            f"--experimental-watch-progress-notify-interval={self._progress}",
            *tls,
        ]

    def _ready(self, member: Member) -> bool:
        status, answer = self.ask(member, "GET", "/health")
        return status == 200 and answer == {"health": "true"}

    def _leader_seen_by(self, member: Member) -> int | None:
        leader = (self._status(member) or {}).get("leader", "0")
        for each in self.members:
            if each.running and leader == (self._status(each) or {}).get("header", {}).get("member_id", ""):
                return each.index
        return None

    def _status(self, member: Member) -> dict[str, Any] | None:
        status, answer = self.ask(member, "POST", "/v3/maintenance/status", {})
        return answer if status == 200 else None

    def etcdctl(self, *arguments: str, member: int | None = None) -> str:
        """Call etcdctl of API 3, for one member or for all; what it printed.

        Raises:
            CommandError: it refused.
        """
        scheme = "https" if self.certificates else "http"
        chosen = self.endpoints if member is None else [self.endpoints[member]]
        options = [f"--endpoints={','.join(f'{scheme}://{each}' for each in chosen)}"]
        if self.certificates:
            options += [
                f"--cacert={self.certificates.ca}",
                f"--cert={self.certificates.certificate}",
                f"--key={self.certificates.key}",
            ]
        return self._call("etcdctl", *options, *arguments, env={"ETCDCTL_API": "3"})

    def enable_auth(self, root_password: str = "root") -> None:  # noqa: S107 # of a cluster that lives for a test
        """Make user root and switch on users and passwords."""
        self.etcdctl("user", "add", f"root:{root_password}")
        self.etcdctl("user", "grant-role", "root", "root")
        self.etcdctl("auth", "enable")

    def compact(self) -> None:
        """Forget all history up to now."""
        revision = self._status(self.members[self.leader()]) or {}
        self.etcdctl("compact", revision["header"]["revision"])

    def save(self, file: Path) -> None:
        """See `Cluster.save`."""
        self.etcdctl("snapshot", "save", str(file), member=self.leader())

    def restore(self, file: Path) -> None:
        """See `Cluster.restore`: all members stop, get the data, and begin as a new cluster."""
        for member in self.members:
            if member.running:
                self.kill(member.index)
        self._generation += 1
        for member in self.members:
            self.etcdctl(
                *("snapshot", "restore", str(file)),
                *(f"--name={member.name}", f"--data-dir={self._data(member)}"),
                *self._initial,
                f"--initial-advertise-peer-urls=http://{member.address}:{PEER_PORT}",
            )
        for member in self.members:
            self._launch(member)
        self.wait_ready()
