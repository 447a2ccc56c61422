"""A real Consul cluster of one or more servers."""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.cluster import Cluster, Member, Site

SERVER_PORT, GOSSIP_PORT = 8300, 8301


class ConsulCluster(Cluster):
    """See `Cluster`. Elections take one to two seconds, the least that Consul allows.

    `token` is the management token of a cluster with access rules, "" without.
    """

    scheme = "consul"
    port = 8500
    ports = (8500, SERVER_PORT, GOSSIP_PORT)

    def __init__(
        self,
        members: int = 1,
        *,
        on: Sequence[tuple[Site, str]] | None = None,
        tls: bool = False,
        acl: bool = False,
        folder: Path | None = None,
    ) -> None:
        """See `Cluster`; `acl` denies all that a token does not allow."""
        self.token = str(uuid.uuid4()) if acl else ""
        super().__init__(members, on=on, tls=tls, folder=folder)

    def _prepare(self) -> None:
        count = len(self.members)
        # a member that starts again asks the others at once, and not after half a minute
        gossip = {"gossip_interval": "50ms", "probe_interval": "200ms", "probe_timeout": "100ms", "suspicion_mult": 3}
        config: dict[str, Any] = {
            "server": True,
            "bootstrap_expect": count,
            "retry_join": [f"{each.address}:{GOSSIP_PORT}" for each in self.members] if count > 1 else [],
            "retry_interval": "100ms",
            "performance": {"raft_multiplier": 1, "leave_drain_time": "0s"},
            "gossip_lan": gossip,
            # so that tests need not wait 20 s for the end of a session
            "session_ttl_min": "1s",
            "connect": {"enabled": False},
            "disable_update_check": True,
            "disable_remote_exec": True,
            "log_level": "warn",
            "ports": {"dns": -1, "grpc": -1, "serf_wan": -1, "http": self.port, "https": -1},
        }
        if self.token:
            config["acl"] = {"enabled": True, "default_policy": "deny", "tokens": {"master": self.token}}
        if self.certificates:
            config["ports"] |= {"http": -1, "https": self.port}
            config |= {
                "ca_file": str(self.certificates.ca),
                "cert_file": str(self.certificates.member_certificate),
                "key_file": str(self.certificates.member_key),
                "verify_incoming_https": True,
            }
        (self.folder / "consul.json").write_text(json.dumps(config, indent=1))

    def _command(self, member: Member) -> list[str]:
        return [
            str(self._programs / "consul"),
            "agent",
            f"-node={member.name}",
            f"-data-dir={member.folder}",
            f"-bind={member.address}",
            f"-client={member.address}",
            f"-config-file={self.folder / 'consul.json'}",
        ]

    def _headers(self) -> dict[str, str]:
        return {"X-Consul-Token": self.token} if self.token else {}

    def _ready(self, member: Member) -> bool:
        # a key that nobody made: 404 says that the leader was asked
        return self.ask(member, "GET", "/v1/kv/lab-ready?consistent", headers=self._headers())[0] == 404

    def _leader_seen_by(self, member: Member) -> int | None:
        _, answer = self.ask(member, "GET", "/v1/status/leader")
        for each in self.members:
            if answer == f"{each.address}:{SERVER_PORT}":
                return each.index
        return None

    def consul(self, *arguments: str, member: int = 0) -> str:
        """Call the consul command with the management token, at one member; what it printed.

        Raises:
            CommandError: it refused.
        """
        env = {"CONSUL_HTTP_ADDR": self.endpoints[member]}
        if self.token:
            env["CONSUL_HTTP_TOKEN"] = self.token
        if self.certificates:
            env |= {
                "CONSUL_HTTP_SSL": "true",
                "CONSUL_CACERT": str(self.certificates.ca),
                "CONSUL_CLIENT_CERT": str(self.certificates.certificate),
                "CONSUL_CLIENT_KEY": str(self.certificates.key),
            }
        return self._call("consul", *arguments, member=self.members[member], env=env)

    def new_token(self, rules: str) -> str:
        """A token that allows what `rules` (Consul's policy language) say; only with `acl`."""
        policy = f"p{uuid.uuid4().hex}"
        self.consul("acl", "policy", "create", f"-name={policy}", f"-rules={rules}")
        made = json.loads(self.consul("acl", "token", "create", f"-policy-name={policy}", "-format=json"))
        return str(made["SecretID"])

    def save(self, file: Path) -> None:
        """See `Cluster.save`."""
        self.consul("snapshot", "save", str(file), member=self.leader())

    def restore(self, file: Path) -> None:
        """See `Cluster.restore`: the members go on, with the data of then."""
        self.consul("snapshot", "restore", str(file), member=self.leader())
        self.wait_ready()
