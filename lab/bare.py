"""A bare system of a Debian release, as a user's machine is: its own files, processes and network, nothing installed.

The files are made once by debootstrap and kept in `build/lab/`; a system that runs writes above them, and what it
wrote is gone with it. Its packages come from where this machine takes its own, by apt and by pip.
"""

import ast
import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lab.apt import install, keys, mirror, unpack
from lab.errors import LabError
from lab.hosts import Host
from lab.paths import BUILD, ROOT, locked, scratch_folder
from lab.process import Completed, first_process, run, tail, wait_until
from lab.registries import registries

REPOSITORY = "/root/macvlan-global"
"""Folder of a system's copy of this repository."""
USERS_PATH = "/usr/local/bin:/usr/bin:/bin"
"""The PATH that `su` without a dash leaves to root."""
UBUNTU = ("noble",)
"""Suites of Ubuntu; all others are Debian's."""
SYSTEMS = BUILD / "systems"
"""Folder of the files of releases."""
_FETCHED = BUILD / "fetched"
_OUTSIDE = "/run/outside"
"""Folder in which a system sees the files of this machine that pip's settings name."""
_DEBOOTSTRAP = Path("/usr/sbin/debootstrap")
_SCRIPTS = Path("/usr/share/debootstrap/scripts")
# Settings without which the machine's own mirror would not do, and which say nothing about the machine.
_APT_SETTINGS = re.compile(r"^Acquire::(?:Check-|Max-ValidTime|Retries|Allow|https?::Verify).*;$", re.MULTILINE)
# The system's first process: it makes the system, says so, and then collects orphans, as an init does, until it becomes
# /run/boot, for whoever wants to boot it. Where an
# engine keeps its images is memory: it lays overlays of its own there, which must not be above another one.
_INIT = """
set -e
tree=$1 work=$2 archives=$3 cache=$4 memory=$5
shift 5
if [ "$memory" ]; then mount -t tmpfs -o mode=755,size=75% memory "$work"; fi
mkdir "$work/upper" "$work/scratch" "$work/root"
mount -t overlay -o "lowerdir=$tree,upperdir=$work/upper,workdir=$work/scratch" system "$work/root"
cd "$work/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755 run run
mkdir -p run/lock run/before var/lib/macvlan-global-demo var/cache/apt/archives root/.cache/pip
mount -t tmpfs -o mode=700 images var/lib/macvlan-global-demo
mount --bind "$archives" var/cache/apt/archives
mount --bind "$cache" root/.cache/pip
for path in "$@"; do
    if [ -d "$path" ]; then mkdir -p "run/outside$path"
    else mkdir -p "run/outside${path%/*}"; : > "run/outside$path"; fi
    mount --bind "$path" "run/outside$path"
done
echo 127.0.0.1 localhost "$(hostname)" > etc/hosts
hostname > etc/hostname
pivot_root . run/before
umount -l /run/before
rmdir /run/before
touch /run/is-made
while [ ! -x /run/boot ]; do sleep 1; done
exec /run/boot
"""


class System:
    """A running system. Use `bare_system` to make one."""

    def __init__(self, host: Host, init: int, env: Mapping[str, str]) -> None:
        """`init` is its first process, as the machine below counts; `env` is what each command gets."""
        self.host = host
        self._env = dict(env)
        self.root = Path(f"/proc/{init}/root")
        self._enter = ["nsenter", f"--target={init}", "--mount", "--pid", "--net", "--uts", "--ipc", "--"]

    def run(
        self, *command: str, check: bool = True, stdin: str | None = None, timeout: float = 120, path: str = USERS_PATH
    ) -> Completed:
        """Run a command as root, in the system's copy of the repository once there is one.

        Raises:
            CommandError: it failed, and `check` is true; holds all that it said.
        """
        env = {"HOME": "/root", "TERM": "dumb", "LANG": "C.UTF-8", "PATH": path} | self._env
        script = f'cd {REPOSITORY} 2>/dev/null || cd /; exec "$@"'
        words = ["env", "-i", *(f"{name}={value}" for name, value in env.items()), "sh", "-c", script, "sh", *command]
        return run([*self._enter, *words], check=check, stdin=stdin, timeout=timeout)

    def outside(self, path: Path) -> Path:
        """Path at which the system sees a file of this machine that it is shown."""
        return Path(f"{_OUTSIDE}{path}")

    def copy_repository(self) -> None:
        """Give it the files of this repository that git knows or would add."""
        listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT).stdout
        names = [name for name in listed.split("\0") if name and os.path.lexists(ROOT / name)]
        packed = subprocess.run(
            ["tar", "-C", str(ROOT), "--null", "-T", "-", "-c"],
            input="\0".join(names).encode(),
            stdout=subprocess.PIPE,
            check=True,
        )
        unpack = [*self._enter, "sh", "-c", f"mkdir -p {REPOSITORY} && tar -C {REPOSITORY} -x --no-same-owner"]
        subprocess.run(unpack, input=packed.stdout, check=True)


@contextlib.contextmanager
def bare_system(suite: str, shown: Iterable[Path] = ()) -> Iterator[System]:
    """Within the block, a bare system of this suite runs, with apt and pip set up; nothing is left of it.

    `shown` are files and folders of this machine that it sees, at `System.outside`.

    One at a time on a machine: systems share what was fetched.
    """
    tree = ensure_release(suite)
    archives, cache = _FETCHED / suite, _FETCHED / "pip"
    for folder in (archives / "partial", cache):
        folder.mkdir(parents=True, exist_ok=True)
    env, named = pip_environment(_pip_settings())
    outside = [*named, *map(str, shown)]
    with locked("release"), Host(suite) as host, scratch_folder(SYSTEMS) as work, registries(host) as proxy:
        # a machine has an address: without any, getaddrinfo(3) finds not even 127.0.0.1 once a link has an IPv6 one
        host.run(["ip", "address", "add", "192.0.2.1/32", "dev", "lo"])
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "sh", "-c", _INIT, "init"]
        log = host.folder / "init.log"
        memory = "yes" if _memory_is_plenty(Path("/proc/meminfo").read_text()) else ""
        outer = host.popen([*command, *map(str, (tree, work, archives, cache, memory, *outside))], log=log)
        made = work / "root"
        wait_until(
            lambda: outer.poll() is not None or _is_made(first_process(outer.pid)),
            f"system of {suite}",
            explain=lambda: tail(log),
        )
        if outer.poll() is not None:
            raise LabError(f"a system of {suite} could not be made in {made}: {tail(log)}")
        system = System(host, first_process(outer.pid), env | {"http_proxy": proxy, "https_proxy": proxy})
        # the proxy carries one request on a connection; those that apt sends ahead would be lost
        ours = ['Acquire::http::Pipeline-Depth "0";']
        settings = "\n".join([*_APT_SETTINGS.findall(run(["apt-config", "dump"]).stdout), *ours, ""])
        system.run("sh", "-c", "cat > /etc/apt/apt.conf.d/99outside", stdin=settings)
        yield system


def _memory_is_plenty(meminfo: str) -> bool:
    """Whether what a system writes can be kept in memory, which saves half a minute: it is up to two GB."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    return found is not None and int(found[1]) > 8 * 1024 * 1024


def _is_made(init: int) -> bool:
    return init != 0 and Path(f"/proc/{init}/root/run/is-made").exists()


def ensure_release(suite: str) -> Path:
    """The files of a minimal Debian of this suite with `make`, made unless they are there.

    Raises:
        LabError: they could not be fetched or unpacked.
    """
    tree = SYSTEMS / suite
    if tree.exists():
        return tree
    with locked(f"release-{suite}"), scratch_folder(SYSTEMS) as scratch:
        if not tree.exists():
            if not _DEBOOTSTRAP.exists():
                install(["debootstrap"])
            print(f"lab: making a minimal system of {suite}", flush=True)
            from_ubuntu = suite in UBUNTU
            archive, ring = (_ubuntu_archive(), _ubuntu_keys()) if from_ubuntu else (mirror(), keys())
            command = [str(_DEBOOTSTRAP), "--variant=minbase", "--include=make", f"--keyring={ring}"]
            # an older debootstrap has no script for a release that came after it: they are all like these two
            like = "gutsy" if from_ubuntu else "sid"
            script = [] if (_SCRIPTS / suite).exists() else [str(_SCRIPTS / like)]
            run([*command, suite, str(scratch / suite), archive, *script], env=_with_apts_proxy(), timeout=600)
            _make_bare(scratch / suite)
            (scratch / suite).rename(tree)
    return tree


def _ubuntu_archive() -> str:
    """Ubuntu's archive, as debootstrap knows it."""
    found = re.search(r"https?://archive\.\S+/ubuntu\b", (_SCRIPTS / "gutsy").read_text())
    if found is None:
        raise LabError(f"{_SCRIPTS / 'gutsy'} names no archive of Ubuntu")
    return found[0]


def _ubuntu_keys() -> Path:
    """The keys of Ubuntu's archive, from Debian's package of them."""
    tree = BUILD / "ubuntu-keys"
    unpack("trixie", ["ubuntu-keyring"], tree)
    return tree / "usr/share/keyrings/ubuntu-archive-keyring.gpg"


def _make_bare(tree: Path) -> None:
    """Take away what debootstrap fetched, as on an image; what is installed here need not outlive a power cut."""
    for kind in ("cache/apt/archives", "lib/apt/lists"):
        shutil.rmtree(tree / "var" / kind)
        (tree / "var" / kind / "partial").mkdir(parents=True)
    (tree / "etc/dpkg/dpkg.cfg.d/lab").write_text("force-unsafe-io\n")


def _with_apts_proxy() -> dict[str, str]:
    """The environment, with the proxy that only apt is told of: debootstrap fetches by itself."""
    found = run(["apt-config", "shell", "proxy", "Acquire::http::Proxy"]).stdout.strip()
    value = found.removeprefix("proxy=").strip("'")
    own = {"http_proxy": value} if value not in {"", "DIRECT"} else {}
    return own | os.environ


def _pip_settings() -> str:
    return run([sys.executable, "-m", "pip", "config", "list"]).stdout


def pip_environment(listed: str) -> tuple[dict[str, str], list[str]]:
    """Settings of `pip config list`, as variables for pip on a system; and the files of this machine that they name.

    The files are to be at the same path below `_OUTSIDE` there. Of a folder that is an index the one above it is
    named: packages lie beside an index as a rule.
    """
    env: dict[str, str] = {}
    outside: set[str] = set()
    # variables come first in the list, and win over files
    for line in reversed(listed.splitlines()):
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        words = []
        for word in str(ast.literal_eval(value)).split():
            scheme = "file://" if word.startswith("file://") else ""
            path = word.removeprefix(scheme)
            if path.startswith("/") and os.path.exists(path):  # noqa: PTH110
                outside.add(str(Path(path).parent) if scheme and option.endswith("index-url") else path)
                words.append(f"{scheme}{_OUTSIDE}{path}")
            else:
                words.append(word)
        env[f"PIP_{option.upper().replace('-', '_')}"] = " ".join(words)
    return env, sorted(outside)
