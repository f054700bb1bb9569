"""The release before this one, as a source tree of its own."""

from __future__ import annotations

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = ROOT / "deploy" / "previous-release"


def previous_release() -> str:
    """The commit or tag that `deploy/previous-release` names."""
    lines = NAMED.read_text(encoding="utf-8").splitlines()
    (named,) = (line.strip() for line in lines if line.strip() and not line.startswith("#"))
    return named


def unpack(release: str, folder: Path) -> Path:
    """Its tree, in a folder. Raises RuntimeError where this is no clone that has it."""
    done = subprocess.run(["git", "archive", release], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"release {release} is not in this clone: {' '.join(reason) or 'git archive failed'}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder
