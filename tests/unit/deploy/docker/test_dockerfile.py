"""What the four images are by their Dockerfile; `make images` shows what they become."""

from __future__ import annotations

import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from deploy.docker.build import SERVICES, version

ROOT = Path(__file__).parents[4]
FILE = ROOT / "deploy" / "docker" / "Dockerfile"
HADOLINT = shutil.which("hadolint") or shutil.which(str(ROOT / ".image-tools" / "bin" / "hadolint"))
PORTS = {"gateway": 8000, "drafter": 9101, "selector": 9102, "verifier": 9103}


def stages() -> dict[str, tuple[str, list[str]]]:
    """What each stage is built on, and its instructions, lines joined."""
    text = re.sub(r"\\\n\s*", "", "\n".join(line for line in FILE.read_text().splitlines() if line[:1] != "#"))
    found: dict[str, tuple[str, list[str]]] = {}
    for line in filter(None, text.splitlines()):
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            found[match[2]] = match[1], []
        elif found:
            found[next(reversed(found))][1].append(line)
    return found


def instructions(stage: str) -> list[str]:
    """Of a stage and those below it, the lowest first."""
    known = stages()
    lines: list[str] = []
    while stage in known:
        below, own = known[stage]
        stage, lines = below, own + lines
    return lines


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_runs_its_service_as_nobody_special(service: str) -> None:
    lines = instructions(service)
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    assert lines[-1] == f'ENTRYPOINT ["python", "-m", "services.{service}"]'
    assert f"EXPOSE {PORTS[service]}" in lines
    assert "WORKDIR /opt/adaserve" in lines
    assert any("HOME=/tmp" in line for line in lines)
    assert not [line for line in lines if line.startswith(("HEALTHCHECK", "ADD", "VOLUME", "CMD"))]


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_no_other_service(service: str) -> None:
    copied = [line.split()[-1] for line in instructions(service) if "/services/" in line]
    assert copied == ["/opt/adaserve/services/__init__.py", f"/opt/adaserve/services/{service}"]


@pytest.mark.parametrize("service", ["gateway", "selector"])
def test_no_weights_where_no_model_runs(service: str) -> None:
    assert not [line for line in instructions(service) if "safetensors" in line or "torch" in line]


def test_whatever_is_installed_is_checked_by_its_hash() -> None:
    installs = {
        name: [run for run in own if "pip" in run and " install " in run] for name, (_, own) in stages().items()
    }
    unchecked = {name for name, runs in installs.items() if any("--require-hashes" not in run for run in runs)}
    assert unchecked == {"code"}  # which installs our own sources by a checked backend
    assert sum(map(len, installs.values())) == 7


def test_what_everything_stands_on_is_named_by_its_digest() -> None:
    (named,) = re.findall(r"^ARG BASE=(\S+)$", FILE.read_text(), re.MULTILINE)
    assert re.fullmatch(r"docker\.io/library/python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", named)


def test_nothing_that_installs_is_left_and_the_list_of_packages_is() -> None:
    (removal,) = [line for line in stages()["runtime"][1] if "rm -rf" in line]
    gone = removal.partition("rm -rf")[2].split()
    for program in ("/usr/local/bin/pip3", "/usr/bin/apt-get", "/usr/bin/dpkg", "/usr/bin/perl5.36.0"):
        assert any(fnmatch(program, pattern) for pattern in gone), program
    assert not [pattern for pattern in gone if fnmatch("/var/lib/dpkg/status", pattern)]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    shown = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for _, own in stages().values():
        for line in own:
            if not line.startswith("COPY") or "--from=" in line:
                continue
            for source in line.split()[1:-1]:
                found = list(ROOT.glob(re.sub(r"\$\{\w+\}", "cpu", source)))
                assert found, source
                assert any(fnmatch(source, name) or source.startswith(f"{name}/") for name in shown), source


def test_labels_say_the_release() -> None:
    assert f"ARG VERSION={version()}" in stages()["runtime"][1]


def test_hadolint_finds_nothing() -> None:
    if HADOLINT is None:
        pytest.skip("no hadolint on PATH; `make images` brings it")
    done = subprocess.run([HADOLINT, str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
