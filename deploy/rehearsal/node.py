"""The machine that stands for a node: this process, again, in namespaces of its own.

Whatever it starts, mounts or configures there is gone when it ends, however it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TOOLS = ("unshare", "nsenter", "setpriv", "ip", "mount", "chroot", "sh", "env")
COVERED = Path("/tmp")  # noqa: S108 - by the /tmp that every pod has of its own
_TRIAL = ("sh", "-c", "ip link add x type bridge")


def obstacle() -> str | None:
    """Why there can be no node here; None where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "namespaces and mounts need Linux and root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not on PATH: {', '.join(missing)}"
    here = [path for path in (Path(__file__), Path(sys.prefix)) if COVERED in path.resolve().parents]
    if here:
        return f"{here[0]} lies under {COVERED}, where a pod cannot see it"
    tried = subprocess.run(
        [shutil.which("unshare") or "", "--net", "--mount", "--pid", "--fork", *_TRIAL],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else None


def command(program: Sequence[str]) -> list[str]:
    """What runs a program as process 1 of namespaces of its own."""
    return [
        "unshare",
        "--net",
        "--mount",
        "--uts",
        "--ipc",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        *program,
    ]


def enter(program: Sequence[str]) -> None:
    """Become a program on a node. Does not return. Raises OSError."""
    found = command(program)
    os.execvp(found[0], found)  # noqa: S606 - a fixed program with our own arguments
