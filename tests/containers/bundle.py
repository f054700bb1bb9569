"""An OCI bundle as a restricted pod would have it: nobody's user, no capability, a root that cannot be written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

USER = 10001
_QUIET = ["nosuid", "noexec", "nodev"]
_SYSTEM: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*_QUIET, "mode=1777", "size=64m"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*_QUIET, "ro"]},
]
_MASKED = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


@dataclass(frozen=True, kw_only=True)
class Container:
    """`seen`: path inside -> path of this machine, read-only. `writable`: folders in memory. `network`: path of a
    namespace, or None for one of its own."""

    name: str
    root: Path
    words: Sequence[str]
    environment: Mapping[str, str]
    seen: Mapping[str, Path] = field(default_factory=dict)
    writable: Sequence[str] = ("/tmp",)
    network: str | None = None


def write(container: Container, folder: Path) -> None:
    """`config.json` of the bundle in ``folder``."""
    (folder / "config.json").write_text(json.dumps(config(container), indent=1), encoding="utf-8")


def config(container: Container) -> dict[str, Any]:
    """The runtime specification, 1.0.2."""
    network = {"type": "network"} | ({} if container.network is None else {"path": container.network})
    return {
        "ociVersion": "1.0.2",
        "hostname": container.name,
        "process": {
            "terminal": False,
            "user": {"uid": USER, "gid": USER},
            "args": list(container.words),
            "env": [f"{name}={value}" for name, value in container.environment.items()],
            "cwd": "/opt/adaserve" if (container.root / "opt/adaserve").exists() else "/",
            "capabilities": {
                name: [] for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
            },
            "noNewPrivileges": True,
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096}],
        },
        "root": {"path": str(container.root), "readonly": True},
        "mounts": _SYSTEM + _mounts(container),
        "linux": {
            "namespaces": [*({"type": kind} for kind in ("pid", "mount", "ipc", "uts")), network],
            "maskedPaths": _MASKED,
            "readonlyPaths": _READ_ONLY,
        },
    }


def _mounts(container: Container) -> list[dict[str, Any]]:
    memory = [
        {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}
        for path in container.writable
    ]
    files = [
        {"destination": inside, "type": "bind", "source": str(path), "options": ["bind", "ro", "nosuid", "nodev"]}
        for inside, path in container.seen.items()
    ]
    return memory + files
