"""The image that containers of the lab run: busybox under the name `alpine:latest`.

No registry is needed, and commands are the ones that the product's users type
in examples: `ping`, `ip`, `nslookup`, `nc`, `httpd`.
"""

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from lab.packages import ensure_busybox
from lab.paths import BUILD, locked, scratch_folder

IMAGE = "alpine:latest"
# Beside the applets of busybox itself: names that it serves only through another.
_EXTRA = ("ping6",)
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
_FOLDERS = ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var", "www")


def image_archive() -> Path:
    """The image's file tree as a tar archive; made on the first call, kept for later ones."""
    archive = BUILD / "image.tar"
    if archive.exists():
        return archive
    busybox = ensure_busybox()  # `make run` wants no more of the lab than this
    with locked("image"), scratch_folder(BUILD) as scratch:
        if not archive.exists():
            _write(busybox, scratch / "image.tar")
            (scratch / "image.tar").rename(archive)
    return archive


def import_image(docker: Callable[..., str]) -> None:
    """Give the image to an engine, unless it has it.

    Args:
        docker: calls the docker command of that engine, as `Host.docker` does.
    """
    if not docker("images", "--quiet", IMAGE).strip():
        docker("import", "--change", 'CMD ["/bin/sh"]', str(image_archive()), IMAGE)


def _write(busybox: Path, path: Path) -> None:
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(path, "w") as tar:
        for folder in _FOLDERS:
            tar.addfile(_entry(folder, tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755))
        tar.add(busybox, "bin/busybox", filter=_as_root)
        for applet in sorted({*applets, *_EXTRA} - {"busybox"}):
            link = _entry(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
            link.linkname = "busybox"
            tar.addfile(link)
        for name, text in _FILES.items():
            file = _entry(name, tarfile.REGTYPE, 0o644)
            file.size = len(text)
            tar.addfile(file, io.BytesIO(text.encode()))


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.mode = mode
    return entry


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755
    return entry
