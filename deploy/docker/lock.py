"""Writes the requirement locks of the images, each file by its SHA-256: `python -m deploy.docker.lock`.

Versions are those of constraints.txt, which the tests run with; the resolver is `uv`, which need not be installed
for anything else. PyTorch for CPUs comes from an index of its own, so the locks of ENGINE=cpu leave it out, with
NVIDIA's libraries, and name what it needs besides; torch-cpu.txt, by hand, is its lock.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "requirements"
PYTHON = "3.11"
BUILD = "setuptools\n"
TORCH_ITSELF = "torch"
TORCH_NEEDS = "filelock\nfsspec\njinja2\nnetworkx\nsetuptools\nsympy\ntyping-extensions\n"
HEADER = "# Written by `python -m deploy.docker.lock`: versions of constraints.txt, each file by its SHA-256.\n"
MACHINES = [
    {"sys_platform": platform, "platform_machine": machine, "python_full_version": version}
    for platform, machine, version in product(
        ("linux", "darwin", "win32", "emscripten"),
        ("x86_64", "aarch64", "arm64", "ARM64", "AMD64", "amd64"),
        ("3.11.0", "3.11.9", "3.12.0", "3.13.0", "3.14.0", "3.15.0"),
    )
]


@dataclass(frozen=True)
class Lock:
    """`extras` of pyproject.toml, or `words` in place of it."""

    name: str
    extras: tuple[str, ...] = ()
    words: str = ""
    has_torch: bool = True


LOCKS = (
    Lock("build", words=BUILD),
    Lock("gateway", ("gateway", "grpc")),
    Lock("selector", ("selector", "grpc")),
    Lock("drafter-cpu", ("drafter", "grpc"), has_torch=False),
    Lock("verifier-cpu", ("verifier", "grpc"), has_torch=False),
    Lock("drafter-cuda", ("drafter", "grpc")),
    Lock("verifier-cuda", ("verifier", "grpc")),
)


def resolved(lock: Lock, uv: str) -> str:
    """The lock's text. Raises CalledProcessError with uv's own words where nothing fits."""
    with tempfile.TemporaryDirectory() as folder:
        asked, without = Path(folder) / "asked.in", Path(folder) / "without.in"
        asked.write_text(lock.words + ("" if lock.has_torch else TORCH_NEEDS))
        without.write_text(f"{TORCH_ITSELF} ; python_version < '0'\n")
        words = ["pip", "compile", "--quiet", "--universal", "--python-version", PYTHON, "--generate-hashes"]
        words += ["--no-header", "--no-annotate", "--constraints", "constraints.txt", str(asked)]
        words += [] if lock.words else ["pyproject.toml"]
        words += [word for extra in lock.extras for word in ("--extra", extra)]
        words += [] if lock.has_torch else ["--overrides", str(without)]
        done = subprocess.run([uv, *words], cwd=ROOT, check=True, capture_output=True, text=True)
    return HEADER + done.stdout


def same(text: str, other: str) -> bool:
    """Whether two locks ask for the same on every machine: uv has several spellings for one condition."""
    return [_asked(line) for line in text.splitlines()] == [_asked(line) for line in other.splitlines()]


def _asked(line: str) -> tuple[str, tuple[bool, ...]]:
    asked, _, condition = line.removesuffix(" \\").partition(" ; ")
    return asked, tuple(Marker(condition).evaluate(machine) for machine in MACHINES) if condition else ()


def main() -> None:
    """All of them, or those that are named."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.docker.lock", description="requirement locks of images"
    )
    parser.add_argument("names", nargs="*", help="such as gateway; all by default")
    parser.add_argument("--uv", default=shutil.which("uv") or "uv", help="the resolver")
    given = parser.parse_args()
    for lock in LOCKS:
        if given.names and lock.name not in given.names:
            continue
        text = resolved(lock, given.uv)
        path = FOLDER / f"{lock.name}.txt"
        is_new = not path.exists() or not same(text, path.read_text(encoding="utf-8"))
        if is_new:
            path.write_text(text, encoding="utf-8")
        sys.stdout.write(
            f"{lock.name}: {text.count('--hash')} files' hashes, {'written' if is_new else 'as it was'}\n"
        )


if __name__ == "__main__":
    main()
