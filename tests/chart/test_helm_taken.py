"""Values at the edge of what is refused, which are taken, and what becomes of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy import chart
from tests.chart.renders import Render, documents_in
from tests.chart.test_helm import needs_helm
from tests.chart.test_kubernetes_page import blocks

pytestmark = needs_helm
ENOUGH = [
    "services: {verifier: {engine: {kvMemoryMb: 3071}}}",
    "services: {verifier: {engine: {kvMemoryMb: 9000}, resources: {limits: {memory: null}}}}",
    "services: {drafter: {engine: {kvMemoryMb: 1535}, resources: {limits: {memory: 1.5Gi}}}}",
    "services: {verifier: {engine: {kvMemoryMb: 4095}, resources: {limits: {memory: 4294967296}}}}",
    "redis: {maxMemory: 1535mb, resources: {limits: {memory: 1610612736}}}",
    "redis: {maxMemory: 1535mb, resources: {limits: {memory: 1.5Gi}}}",
    "image: {registry: 'localhost:5000/team/adaserve'}",
    "models: {target: 'image:///opt/a..b', draft: 'hf://org/na..me@v1..2'}",
    "services: {gateway: {service: {type: NodePort, publishAdmin: true}}}",
]


@pytest.mark.parametrize("values", ENOUGH)
def test_what_is_just_right_is_taken(values: str, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(values)
    assert chart.template("x", "--values", str(tmp_path / "values.yaml"))


@pytest.mark.parametrize(
    ("given", "dtype"), [("", "bfloat16"), ("dtype: float32", "float32"), ("dtype: float64", "float64")]
)
def test_numbers_on_a_gpu_are_short_ones_unless_it_is_said(given: str, dtype: str, tmp_path: Path) -> None:
    engine = f"engine: {{device: 'cuda:0', kvMemoryMb: 8192, {given}}}"
    values = f"services: {{verifier: {{{engine}, resources: {{limits: {{memory: 8Gi, nvidia.com/gpu: 1}}}}}}}}"
    (tmp_path / "values.yaml").write_text(values)
    text = chart.template("x", "--values", str(tmp_path / "values.yaml"))
    (verifier,) = [part for part in text.split("\n---\n") if 'ADASERVE_DEVICE, value: "cuda:0"' in part]
    assert f"ADASERVE_DTYPE, value: {dtype}}}" in verifier


@pytest.mark.parametrize(
    ("drafter", "verifier", "told"),
    [
        ("device: cuda, gpuMemoryShare: 0.1", "device: cuda", {"GPU_MEMORY_SHARE": ["0.1", "0.9"]}),
        (
            "device: cuda, gpuMemoryShare: 0.5",
            "device: cuda, kvMemoryMb: 8192",
            {"GPU_MEMORY_SHARE": ["0.5"], "KV_MEMORY_MB": ["8192"]},
        ),
        ("device: cpu", "device: cuda, gpuMemoryShare: 1", {"GPU_MEMORY_SHARE": ["1"], "KV_MEMORY_MB": ["256"]}),
    ],
)
def test_on_a_gpu_a_share_is_told_unless_memory_is_given(
    drafter: str, verifier: str, told: dict[str, list[str]], tmp_path: Path
) -> None:
    resources = "resources: {limits: {memory: 8Gi, nvidia.com/gpu: 1}}"
    (tmp_path / "values.yaml").write_text(
        f"""services: {{drafter: {{inVerifierPod: true, engine: {{{drafter}}}, {resources}}},
          verifier: {{engine: {{{verifier}}}, {resources}}}}}"""
    )
    text = chart.template("x", "--values", str(tmp_path / "values.yaml"))
    pattern = re.compile(r'ADASERVE_(GPU_MEMORY_SHARE|KV_MEMORY_MB), value: "([0-9.]+)"')
    found: dict[str, list[str]] = {}
    for name, value in pattern.findall(text):
        found.setdefault(name, []).append(value)
    assert {name: sorted(values) for name, values in found.items()} == told


@pytest.mark.parametrize("base", ["", "https://docs.example.com/"])
def test_an_alert_has_a_link_to_its_runbook_or_none(base: str) -> None:
    text = chart.template(
        "x", "--set", f"metrics.prometheusRule.enabled=true,metrics.prometheusRule.runbookBase={base}"
    )
    (rules,) = [each for each in documents_in(text) if each["kind"] == "PrometheusRule"]
    alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        path = f"docs/operations.md#{alert['alert'].lower()}"
        told = {name: value for name, value in alert["annotations"].items() if name.startswith("runbook")}
        assert told == ({"runbook_url": f"{base}{path}"} if base else {"runbook": path})


def test_what_the_page_says_for_openshift_names_its_dns_and_no_user(tmp_path: Path) -> None:
    (block,) = [block for block in blocks() if "openshift-dns" in block]
    (tmp_path / "values.yaml").write_text(block)
    render = Render("x", documents_in(chart.template("x", "--values", str(tmp_path / "values.yaml"))), {})
    rules = [rule for policy in render.of_kind("NetworkPolicy") for rule in policy["spec"].get("egress") or []]
    dns = [rule for rule in rules if any(port["protocol"] == "UDP" for port in rule["ports"])]
    namespace = {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}}
    pods = {"matchLabels": {"dns.operator.openshift.io/daemonset-dns": "default"}}
    ports = [{"protocol": protocol, "port": 5353} for protocol in ("UDP", "TCP")]
    assert dns == [{"to": [{"namespaceSelector": namespace, "podSelector": pods}], "ports": ports}]
    for pod in render.pods():
        assert pod.spec["securityContext"].keys() == {"runAsNonRoot", "fsGroupChangePolicy", "seccompProfile"}


def test_keda_finds_the_charts_redis_from_its_own_namespace(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(
        "services: {verifier: {autoscaling: {engine: keda, redisStreams: "
        "[{stream: s, count: streamLength, target: 4}]}}}"
    )
    text = chart.template("x", "--namespace", "serving", "--values", str(tmp_path / "values.yaml"))
    assert 'address: "x-adaserve-redis.serving.svc:6379"' in text
