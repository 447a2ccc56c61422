"""Docker Compose, as people type it: Debian's package, unpacked beside the system, is a plugin of a host's `docker`.

A file is run as it is written: a stand-in is given to the engine under the name of each of its images.
"""

import json
import re
from pathlib import Path

from lab.apt import unpack
from lab.hosts import Host
from lab.image import image_archive
from lab.paths import BUILD

# 2.40 of sid needs no newer C library than bookworm's; bookworm has only 1.29, a program of its own, in Python.
_TREE = BUILD / "compose"
_PLUGIN = _TREE / "usr/libexec/docker/cli-plugins/docker-compose"
_STAND_IN = "stand-in:latest"
STAND_IN_PORT = 8080
"""TCP port of every stand-in: it serves over HTTP the page `/`, the name of its host."""
_PROGRAMS = ("valkey-cli",)
"""Commands of health checks that a stand-in has beside busybox's own; they succeed."""
# Files may give an image arguments: a stand-in ignores them. A shell that waits ends at SIGTERM, a `sleep` does not.
_ENTRYPOINT = f"""
for each in {" ".join(_PROGRAMS)}; do printf '#!/bin/sh\\n' > /bin/$each; chmod +x /bin/$each; done
hostname > /www/index.html
httpd -p {STAND_IN_PORT} -h /www
trap 'exit 0' TERM INT
sleep 1000000 & wait
"""
UP_SECONDS = 300.0
"""A command of Compose makes all containers of a project, one after the other."""
_IMAGE = re.compile(r"\bimage: (?P<name>[\w./:-]+)")


def ensure_compose() -> Path:
    """Unpack Compose unless it is; the plugin of `docker` that it is."""
    unpack("sid", ["docker-compose"], _TREE)
    return _PLUGIN


class Project:
    """A folder with a Compose file on a host, where `docker compose` commands are typed."""

    def __init__(self, host: Host, text: str, folder: str = "project") -> None:
        """Write the file, and give the host Compose and stand-ins for the images; nothing of the project runs.

        Args:
            host: its engine runs.
            text: the file. A later project in the same folder replaces it.
            folder: name of the folder, which is the name of the project unless the file has another one.
        """
        self._host = host
        self._file = f"/run/compose/{folder}/compose.yaml"
        self.write(text)
        plugins = host.run_folder / "docker-client/cli-plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        link = plugins / _PLUGIN.name
        if not link.is_symlink():
            link.symlink_to(ensure_compose())
        give_images(host, text)

    def write(self, text: str) -> None:
        """Change the file."""
        file = self._host.run_folder / self._file.removeprefix("/run/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def type(self, *words: str) -> str:
        """Output of `docker compose` with these words.

        Raises:
            DockerError: it failed; `stderr` has Compose's words.
        """
        command = ("compose", "--progress=plain", f"--file={self._file}", *words)
        return self._host.docker(*command, timeout=UP_SECONDS).strip()


def give_images(host: Host, text: str) -> None:
    """Give a host's engine a stand-in under the name of each image in a file that it has not."""
    names = set(_IMAGE.findall(text))
    there = set(host.docker("images", "--format={{.Repository}}:{{.Tag}}").split())
    wanted = {name if ":" in name else f"{name}:latest" for name in names} - there
    if wanted and _STAND_IN not in there:
        entrypoint = json.dumps(["/bin/sh", "-c", _ENTRYPOINT])
        host.docker("import", "--change", f"ENTRYPOINT {entrypoint}", str(image_archive()), _STAND_IN)
    for name in wanted:
        host.docker("tag", _STAND_IN, name)
