"""What a container sees: its root, its user, its environment. Namespaces and mounts by util-linux; no daemon.

The process itself is number 1 of its namespace, as in a container: signals without a handler do nothing there.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BASE = ("usr", "bin", "sbin", "lib", "lib64")  # the machine's, for a base image's
ETC = (
    "alternatives",
    "ca-certificates",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "ssl",
)
DEVICES = ("full", "null", "random", "urandom", "zero")
SHM_MB = 64


@dataclass(frozen=True, slots=True)
class Mount:
    """``source`` of this machine at ``target`` of the container."""

    source: Path
    target: str
    is_read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who a container's processes are."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    keeps_capabilities: bool
    may_gain: bool  # privileges, by a set-user-id program

    @property
    def command(self) -> list[str]:
        """What becomes this user and then runs what follows."""
        groups = [f"--groups={','.join(map(str, self.groups))}"] if self.groups else ["--clear-groups"]
        capabilities = [] if self.keeps_capabilities else ["--bounding-set=-all", "--inh-caps=-all"]
        gain = [] if self.may_gain else ["--no-new-privs"]
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", *groups, *capabilities, *gain]


def prepare_root(
    root: Path,
    mounts: Iterable[Mount],
    links: Mapping[str, str],
    *,
    files: Mapping[str, str],
    programs: Mapping[str, str],
) -> None:
    """Empty folders and files to mount upon, and the little that an image has of its own."""
    for name in (*BASE, "proc", "sys", "dev/shm", "tmp", "run", "var", "opt"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(Path("/", name).readlink())
        else:
            (root / name).mkdir(parents=True, exist_ok=True)
    for name in DEVICES:
        (root / "dev" / name).touch()
    for name in _present(ETC):
        _make_place(root / "etc" / name, Path("/etc", name))
    for name, text in (*files.items(), *programs.items()):
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name in programs else 0o644)
    for name, target in links.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    for mount in mounts:
        _make_place(root / mount.target.lstrip("/"), mount.source)


def _make_place(place: Path, source: Path) -> None:
    if source.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def script(root: Path, mounts: Sequence[Mount], *, is_read_only: bool, command: Sequence[str]) -> str:
    """A shell script for a new mount and pid namespace, run as root; it becomes ``command``, given by `run_as`."""
    lines = ["set -e", "mount --make-rprivate /", f"mount --bind {root} {root}"]
    folders = [Path("/", name) for name in BASE if not Path("/", name).is_symlink()]
    machine = [*folders, *(Path("/etc", name) for name in _present(ETC))]
    lines += [_bind(path, root / path.relative_to("/"), is_read_only=True) for path in machine]
    lines += [_bind(Path("/dev", name), root / "dev" / name, is_read_only=False) for name in DEVICES]
    lines += [
        f"mount -t tmpfs -o size={SHM_MB}m,mode=1777 shm {root}/dev/shm",  # noqa: S108 - the container's own
        f"mount -t proc proc {root}/proc",
        f"mount -t sysfs -o ro sysfs {root}/sys",
    ]
    # Outer ones first: a volume may be mounted inside another.
    ordered = sorted(mounts, key=lambda mount: mount.target.count("/"))
    lines += [_bind(one.source, root / one.target.lstrip("/"), is_read_only=one.is_read_only) for one in ordered]
    if is_read_only:
        lines.append(f"mount -o remount,bind,ro {root}")
    lines.append(f"exec chroot {shlex.quote(str(root))} {shlex.join(command)}")
    return "\n".join(lines) + "\n"


def run_as(user: User, workdir: str, environment: Mapping[str, str], command: Sequence[str]) -> list[str]:
    """The whole command line inside of the root: exactly this environment, nobody's rights."""
    variables = [f"{name}={value}" for name, value in environment.items()]
    return [*user.command, "env", "-i", f"--chdir={workdir}", *variables, *command]


def _bind(source: Path, target: Path, *, is_read_only: bool) -> str:
    options = "bind,ro" if is_read_only else "bind"
    return f"mount -o {options} {shlex.quote(str(source))} {shlex.quote(str(target))}"


def _present(names: Iterable[str]) -> list[str]:
    return [name for name in names if Path("/etc", name).exists()]
