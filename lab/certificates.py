"""Certificates for members of a store and their clients, by the openssl command. They last a day."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.process import run


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: the authority, what a member shows, and what a client shows."""

    ca: Path
    member_certificate: Path
    member_key: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path, addresses: Sequence[str]) -> Certificates:
    """An authority, a certificate for members at these addresses (and loopback), and one for clients.

    That of the clients has no common name: etcd refuses one at its JSON gateway once users are switched on.
    """
    folder.mkdir(parents=True)
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-subj", "/CN=lab", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    run(["openssl", "req", "-x509", *new_key, "-days", "1", *authority, "-keyout", str(ca_key), "-out", str(ca)])

    def issue(name: str, subject: str, extensions: str) -> tuple[Path, Path]:
        certificate, key, request, asked = (folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        asked.write_text(extensions)
        run(["openssl", "req", *new_key, "-subj", subject, "-keyout", str(key), "-out", str(request)])
        signing = ["-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial", "-days", "1", "-extfile", str(asked)]
        run(["openssl", "x509", "-req", "-in", str(request), *signing, "-out", str(certificate)])
        return certificate, key

    names = ",".join(["DNS:localhost", *(f"IP:{address}" for address in ("127.0.0.1", *addresses))])
    # members are clients of one another, too
    member = issue("member", "/CN=member", f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
    return Certificates(ca, *member, *issue("client", "/O=lab", "extendedKeyUsage=clientAuth\n"))
