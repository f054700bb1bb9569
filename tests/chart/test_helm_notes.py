"""What `helm install` tells: commands that can be typed, and what an operator should know of allowed values."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import chart
from tests.chart.api_server import ApiServer
from tests.chart.test_helm import Release, needs_helm

pytestmark = needs_helm


def notes_of(folder: Path, values: str) -> str:
    """Of an install with these values."""
    file = folder / "values.yaml"
    file.write_text(values)
    with ApiServer() as server:
        return Release(server, folder).run("install", "--values", str(file)).partition("NOTES:")[2]


@pytest.mark.parametrize("example", ["minimal-cpu", "keda", "gpu"])
def test_notes_say_what_can_be_typed(example: str, tmp_path: Path) -> None:
    notes = notes_of(tmp_path, (chart.EXAMPLES / f"{example}.yaml").read_text())
    assert "logs -f job" not in notes  # kubectl takes a selector or an object, not both
    assert "$KEY" not in notes
    assert notes.count("$ADASERVE_API_KEY") == 1
    assert ("ignore spec.replicas" in notes) == (example == "keda")
    assert "\n\n\n" not in notes
    assert f"--tenant {'acme' if example == 'gpu' else 'default'} " in notes


TOLD = {
    "models.target: hf://a/b names no revision": "models: {target: hf://a/b, draft: hf://a/c@v1}",
    "models.draft: hf://a/c names no revision": "models: {target: hf://a/b@v1, draft: hf://a/c}",
    "services.gateway.service.type is LoadBalancer": """
        services: {gateway: {service: {type: LoadBalancer, publishAdmin: true}}}""",
    "ingress.tlsSecret is empty": "ingress: {enabled: true, hosts: [llm.example.com]}",
    "runbookBase is empty": "metrics: {prometheusRule: {enabled: true}}",
    "Neither metrics.serviceMonitor nor metrics.podMonitor": "services: {verifier: {autoscaling: {engine: keda}}}",
    "of selector, verifier ask for external metrics": """
        services: {selector: {autoscaling: {engine: hpa}}, verifier: {autoscaling: {engine: hpa}}}""",
    "services.drafter.replicas is 3, and there are at most 2": """
        services: {drafter: {replicas: 3}, verifier: {replicas: 2}}""",
    "A drafter that has not loaded its model after 300 s": """
        services:
          drafter:
            engine: {device: cuda, kvMemoryMb: 4096}
            resources: {limits: {memory: 8Gi, nvidia.com/gpu: 1}}""",
    "networkPolicy.enabled is false": "networkPolicy: {enabled: false}",
    "with Redis' pod its keys": "redis: {persistence: {enabled: false}}",
    "a model of the images (/opt/adaserve/models/target)": "{}",
}
QUIET = """
models: {target: hf://a/b@v1, draft: pvc://models/c}
ingress: {enabled: true, hosts: [llm.example.com], tlsSecret: llm}
metrics: {podMonitor: {enabled: true}, prometheusRule: {enabled: true, runbookBase: "https://docs.example.com/"}}
defaults: {autoscaling: {engine: hpa, adapterRules: true}}
services: {drafter: {replicas: 3}}
"""


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Notes of values that leave nothing to say but how to turn scaling on."""
    return notes_of(tmp_path_factory.mktemp("quiet"), QUIET)


@pytest.mark.parametrize("words", TOLD, ids=lambda words: words[:40])
def test_what_is_allowed_and_odd_is_told(words: str, quiet: str, tmp_path: Path) -> None:
    assert words in notes_of(tmp_path, TOLD[words])
    assert words not in quiet


def test_drafters_are_counted_against_the_verifiers_there_can_be(tmp_path: Path) -> None:
    scaled = "services: {drafter: {replicas: 3}, verifier: {autoscaling: {engine: %s}}}"
    assert "services.drafter.replicas" in notes_of(tmp_path, scaled % "none")
    assert "services.drafter.replicas" not in notes_of(tmp_path, scaled % "keda, max: 3")


@pytest.mark.parametrize(
    ("policy", "tenant"),
    [
        ("policy: {existingConfigMap: mine}", "TENANT-OF-YOUR-POLICY"),
        ("policy: {inline: 'classes: {}'}", "default"),
        ("policy: {inline: 'tenants: {zeta: {}, beta: {}}'}", "beta"),
    ],
)
def test_the_first_key_is_for_a_tenant_that_there_is(policy: str, tenant: str, tmp_path: Path) -> None:
    assert f"--tenant {tenant} " in notes_of(tmp_path, policy)


def test_an_ingress_is_told_with_its_addresses_and_what_it_must_not_do(quiet: str, tmp_path: Path) -> None:
    assert "  https://llm.example.com/v1\n" in quiet
    assert "neither buffer answers nor end a stream that is silent for 15 s" in quiet
    notes = notes_of(tmp_path, "ingress: {enabled: true, paths: [/v1, /live]}")
    assert "  http://ADDRESS-OF-THE-CONTROLLER/v1\n  http://ADDRESS-OF-THE-CONTROLLER/live\n" in notes
    assert "\n\n\n" not in notes
