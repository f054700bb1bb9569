"""The requirement locks: what the tests run with, each file by its hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.docker.lock import FOLDER, LOCKS, Lock

ROOT = Path(__file__).parents[4]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each package of a lock."""
    text = re.sub(r"\\\n\s*", "", (FOLDER / f"{name}.txt").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = {}
    for line in lines:
        match = re.match(r"(\S+?)==(\S+)", line)
        assert match, line
        found[canonicalize_name(match[1])] = match[2], line.count("--hash=sha256:")
    return found


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_is_one_version_with_hashes(lock: Lock) -> None:
    known = constraints()
    for name, (version, hashes) in locked(lock.name).items():
        assert hashes > 0, name
        assert known.get(name, version) == version, name


@pytest.mark.parametrize("lock", [lock for lock in LOCKS if lock.extras], ids=lambda lock: lock.name)
def test_a_lock_holds_all_that_its_service_names(lock: Lock) -> None:
    asked = [Requirement(text) for text in PROJECT["dependencies"]]
    asked += [Requirement(text) for extra in lock.extras for text in PROJECT["optional-dependencies"][extra]]
    held = locked(lock.name)
    for requirement in asked:
        name = canonicalize_name(requirement.name)
        if name == "torch" and not lock.has_torch:
            continue
        assert name in held, f"python -m deploy.docker.lock {lock.name}"
        assert requirement.specifier.contains(held[name][0], prereleases=True), name


@pytest.mark.parametrize("name", ["gateway", "selector"])
def test_no_model_runs_in_gateway_and_selector(name: str) -> None:
    assert not locked(name).keys() & {"torch", "transformers", "safetensors", "scipy", "river"}


@pytest.mark.parametrize("name", ["drafter", "verifier"])
def test_pytorch_is_locked_for_cuda_and_named_apart_for_cpus(name: str) -> None:
    cpu, cuda = locked(f"{name}-cpu"), locked(f"{name}-cuda")
    assert "torch" not in cpu
    assert not [package for package in cpu if package.startswith("nvidia")]
    assert [package for package in cuda if package.startswith("nvidia")]
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    assert f"ARG TORCH=torch=={cuda['torch'][0]}+cpu" in dockerfile
    assert cuda["torch"][0] == constraints()["torch"]
