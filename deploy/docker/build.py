"""Builds the four images with buildah, writes what is in each beside it, and tells their sizes.

    python -m deploy.docker.build                          # from a local Debian base, which it makes
    python -m deploy.docker.build --base python:3.11-slim-bookworm@sha256:… --flag=--network=host gateway

Options of buildah that this machine needs, such as a mounted CA file, go into --flag. Fails where an image without
PyTorch is larger than MAX_MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from deploy.docker import base
from deploy.docker.commands import output, run

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "selector", "drafter", "verifier")
SMALL = ("gateway", "selector")
MAX_MB = 250


def version() -> str:
    """Of pyproject.toml, which is the images' tag and the chart's appVersion."""
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return found


def revision() -> str:
    """The commit, "-changed" where files differ from it."""
    with suppress(OSError, subprocess.CalledProcessError):
        return output("git", "-C", str(ROOT), "describe", "--always", "--dirty=-changed", "--abbrev=40")
    return "unknown"


def name_of(registry: str, service: str, engine: str) -> str:
    """As the chart names it."""
    suffix = "-cuda" if engine == "cuda" and service not in SMALL else ""
    return f"{registry}/adaserve-{service}:{version()}{suffix}"


def build(service: str, name: str, arguments: dict[str, str], flags: Sequence[str]) -> None:
    """One target of the Dockerfile; what it shares with others comes from the cache."""
    words = ["buildah", "build", "--layers", "--format", "oci", "--target", service, "--tag", name, *flags]
    words += [word for pair in arguments.items() for word in ("--build-arg", "=".join(pair))]
    words += ["--ignorefile", str(ROOT / ".dockerignore"), "--file", str(ROOT / "deploy/docker/Dockerfile")]
    run(*words, str(ROOT))


def size_of(root: Path) -> int:
    """Bytes of all files below the image's root, each once however many names it has."""
    seen: dict[tuple[int, int], int] = {}
    for path in root.rglob("*"):
        about = path.lstat()
        if not path.is_dir() or path.is_symlink():
            seen[about.st_dev, about.st_ino] = about.st_size
    return sum(seen.values())


def examined(name: str, bill: Path, syft: str) -> tuple[float, int]:
    """Writes the image's bill of materials, Debian's packages and Python's, as CycloneDX.

    Returns the image's size in MB and how many components it has.
    """
    container = output("buildah", "from", "--pull-never", name)
    try:
        root = Path(output("buildah", "mount", container))
        called = ("--source-name", name.partition(":")[0], "--source-version", name.rpartition(":")[2])
        run(syft, "scan", "--quiet", f"dir:{root}", *called, "--output", f"cyclonedx-json={bill}")
        components = json.loads(bill.read_text(encoding="utf-8"))["components"]
        return size_of(root) / 1e6, sum(one["type"] == "library" for one in components)
    finally:
        output("buildah", "rm", container)


def main() -> None:
    """Exit code 1 where an image is too large."""
    given = _given()
    found = (given.base, given.builder or given.base) if given.base else base.make_both()
    arguments = {"BASE": found[0], "BUILDER": found[1], "ENGINE": given.engine}
    arguments |= {"VERSION": version(), "REVISION": revision()} | dict(
        pair.split("=", 1) for pair in given.argument
    )
    given.out.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for service in given.services or SERVICES:
        name = name_of(given.registry, service, given.engine)
        build(service, name, arguments, given.flag)
        sizes[service] = examined(
            name, given.out / f"{name.rpartition('/')[2].replace(':', '-')}.cdx.json", given.syft
        )
    for service, (megabytes, components) in sizes.items():
        name = name_of(given.registry, service, given.engine)
        sys.stdout.write(f"{name:<45} {megabytes:7.1f} MB, {components} components\n")
    large = [service for service in SMALL if service in sizes and sizes[service][0] > MAX_MB]
    if large:
        sys.exit(f"larger than {MAX_MB} MB: {', '.join(large)}")


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.docker.build", description="the four images")
    parser.add_argument("services", nargs="*", choices=[*SERVICES, []], help="all by default")
    parser.add_argument("--registry", default="localhost", help="first part of their names")
    parser.add_argument("--engine", choices=("cpu", "cuda"), default="cpu", help="of drafter and verifier")
    parser.add_argument("--base", help="image that they run on; by default one of Debian's packages is made")
    parser.add_argument("--builder", help="the same with pip; by default BASE")
    parser.add_argument("--argument", action="append", default=[], metavar="NAME=VALUE", help="for the Dockerfile")
    parser.add_argument("--flag", action="append", default=[], help="for buildah build")
    parser.add_argument("--syft", default="syft", help="what writes bills of materials")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "sbom", help="folder of bills of materials")
    return parser.parse_args()


if __name__ == "__main__":
    main()
