"""The compose files: what each service gets is what it reads, and nobody has more than it needs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.settings import settings_of
from deploy.acl.__main__ import TEMPLATE
from deploy.docker import init
from deploy.docker.build import SERVICES, version
from shared.settings import known_variables

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "deploy" / "docker"
IMAGE_TOOLS = ROOT / ".image-tools" / "bin" / "python"
HELD_AGAINST_THE_SPECIFICATION = """
import sys
from compose_spec import PyOptions
compose = PyOptions(apply_merge=True).from_yaml(sys.stdin.read())
compose.validate()
compose.to_spec()
"""


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return found


COMPOSE = load("compose.yaml")
EVERYONE = COMPOSE["services"]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", ["compose.yaml", "compose.tls.yaml"])
def test_a_service_gets_only_what_it_reads(service: str, name: str) -> None:
    given = set(load(name)["services"][service]["environment"])
    ours = {variable for variable in given if not variable.startswith(("OTEL_", "OMP_"))}
    assert ours <= known_variables(settings_of(service)), service


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_no_rights_and_its_own_secrets(service: str) -> None:
    about = EVERYONE[service]
    assert about["read_only"] is True
    assert about["user"] == "10001:10001"
    assert about["cap_drop"] == ["ALL"]
    assert about["security_opt"] == ["no-new-privileges:true"]
    secrets = [mount for mount in about["volumes"] if "secrets" in mount]
    assert secrets == [f"{service}-secrets:/run/secrets/adaserve:ro"]
    assert about["environment"]["ADASERVE_REDIS_USERNAME"] == service
    assert about["image"].endswith(f"/adaserve-{service}:${{ADASERVE_VERSION:-{version()}}}")


def test_no_secret_stands_in_an_environment() -> None:
    for service in SERVICES:
        for name, value in EVERYONE[service]["environment"].items():
            assert not re.search(r"KEY$|PASSWORD$|TOKEN$", name), (service, name)
            assert "@" not in str(value)


def test_what_is_mounted_from_secrets_is_made(tmp_path: Path) -> None:
    init.fill(tmp_path, TEMPLATE, {})
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    root = "/run/secrets/adaserve/"
    for service in SERVICES:
        named = [value for value in EVERYONE[service]["environment"].values() if str(value).startswith(root)]
        assert named
        assert {f"{service}/{path.removeprefix(root)}" for path in named} <= made
    assert "grafana/password" in made
    volumes = {mount.split(":")[0] for mount in EVERYONE["init"]["volumes"] if "/secrets/" in mount}
    assert {f"{folder}-secrets" if folder != "redis" else "redis-users" for folder in
            {path.partition("/")[0] for path in made}} == volumes  # fmt: skip


@pytest.mark.parametrize("service", EVERYONE)
def test_every_volume_is_declared_and_every_file_is_there(service: str) -> None:
    for mount in EVERYONE[service].get("volumes", ()):
        source = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", mount).split(":")[0]
        if source.startswith("."):
            assert (FOLDER / source).exists(), source
        else:
            assert source in COMPOSE["volumes"], source


def filled(text: str) -> str:
    """With the defaults of its variables, and something for those that must be given."""
    return re.sub(
        r"\$\{\w+(?::?-([^}]*)|:\?[^}]*)\}", lambda found: "/given" if found[1] is None else found[1], text
    )


@pytest.mark.parametrize(
    ("name", "wrong", "told"),
    [
        ("compose.yaml", ("", ""), ""),
        ("compose.tls.yaml", ("", ""), ""),
        ("compose.yaml", ("cap_drop:", "cap_dropp:"), "`cap_dropp`"),
        ("compose.yaml", ("period: 40s", "period: forty"), "duration `forty`"),
        ("compose.yaml", ("networks: [cell, edge]", "networks: [cell, egde]"), "network `egde`"),
    ],
)
def test_the_files_fit_the_specification(name: str, wrong: tuple[str, str], told: str) -> None:
    if not IMAGE_TOOLS.exists():
        pytest.skip("no compose-spec; `make images` brings it")
    text = filled((FOLDER / name).read_text()).replace(*wrong)
    words = [str(IMAGE_TOOLS), "-c", HELD_AGAINST_THE_SPECIFICATION]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is (not told), done.stderr
    assert told in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_pytorch_comes_from_where_the_dockerfile_looks(service: str) -> None:
    (default,) = re.findall(r"^ARG TORCH_INDEX=(\S+)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert EVERYONE[service]["build"]["args"]["TORCH_INDEX"] == f"${{TORCH_INDEX-{default}}}"


@pytest.mark.parametrize("service", EVERYONE)
def test_nothing_listens_beyond_this_machine(service: str) -> None:
    for port in EVERYONE[service].get("ports", ()):
        assert port.startswith(("127.0.0.1:", "${ADASERVE_BIND:-127.0.0.1}:")), port


def test_prometheus_asks_every_service_at_its_port() -> None:
    jobs = yaml.safe_load((FOLDER / "compose" / "prometheus.yaml").read_text())["scrape_configs"]
    asked = {found["names"][0]: found["port"] for job in jobs for found in job["dns_sd_configs"]}
    assert asked == {name: settings_of(name).model_fields["http_port"].default for name in SERVICES}


def test_redis_keeps_what_it_gets_and_lets_in_only_users() -> None:
    for name in ("compose.yaml", "compose.tls.yaml"):
        words = load(name)["services"]["redis"]["command"]
        options = dict(zip(words[1::2], words[2::2], strict=True))
        assert options["--aclfile"] == "/run/users/users.acl"
        assert (options["--appendonly"], options["--maxmemory-policy"]) == ("yes", "noeviction")
    assert options["--port"] == "0"
