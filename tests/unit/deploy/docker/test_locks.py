"""The requirement locks: what the tests run with, each file by its hash."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.docker.lock import FOLDER, LOCKS, Lock, same

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
    assert cuda["torch"][0] == constraints()["torch"]


def test_pytorch_for_cpus_is_what_the_tests_run_with_by_a_hash_for_each_python_and_machine() -> None:
    assert locked("torch-cpu") == {"torch": (f"{constraints()['torch']}+cpu", 4 * 2)}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_every_hash_is_whole_and_no_line_leads_elsewhere(path: Path) -> None:
    words = [word for line in path.read_text().splitlines() if line[:1] != "#" for word in line.split()]
    hashes = [word for word in words if word.startswith("--")]
    assert hashes
    assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", word) for word in hashes)
    assert "://" not in " ".join(words)


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (
            "a==1 ; (platform_machine == 'aarch64' or platform_machine == 'x86_64') and sys_platform == 'linux'",
            True,
        ),
        ("a==1 ; platform_machine == 'aarch64' and sys_platform == 'linux'", False),
        ("a==1", False),
        ("a==2 ; sys_platform == 'linux' and platform_machine in 'aarch64 x86_64'", False),
    ],
)
def test_a_lock_is_written_anew_only_where_it_asks_for_something_else(other: str, is_same: bool) -> None:
    text = (
        "a==1 ; (platform_machine == 'aarch64' and sys_platform == 'linux')"
        " or (platform_machine == 'x86_64' and sys_platform == 'linux')"
    )
    assert same(f"{text} \\\n    --hash=sha256:00", f"{other} \\\n    --hash=sha256:00") is is_same
    assert not same(f"{text} \\\n    --hash=sha256:00", f"{other} \\\n    --hash=sha256:11")


def test_the_lock_of_pytorch_for_cpus_fits_the_wheel_that_pip_knows_here() -> None:
    folders = map(Path, os.environ.get("PIP_FIND_LINKS", "").split())
    wheels = [wheel for folder in folders for wheel in folder.glob(f"torch-{constraints()['torch']}+cpu-*.whl")]
    if not wheels:
        pytest.skip("no wheel of PyTorch for CPUs in PIP_FIND_LINKS")
    text = (FOLDER / "torch-cpu.txt").read_text()
    for wheel in wheels:
        with wheel.open("rb") as file:
            assert f"--hash=sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" in text, wheel.name
