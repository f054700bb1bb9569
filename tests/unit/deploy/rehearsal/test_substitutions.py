"""Nothing of a render is left out without being told."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.rehearsal.environment import environment
from deploy.rehearsal.images import image
from deploy.rehearsal.manifests import WORKLOADS, RehearsalError, Render
from deploy.rehearsal.probes import Probe
from deploy.rehearsal.substitutions import KINDS_LEFT_OUT, check, table
from tests.unit.deploy.rehearsal.test_environment import POD

ROOT = Path(__file__).resolve().parents[4]
SAMPLE = ROOT / "tests" / "rehearsal" / "sample.yaml"


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return [copy.deepcopy(document) for document in yaml.safe_load_all(SAMPLE.read_text())]


def pod(documents: list[dict[str, Any]]) -> Any:
    return documents[-1]["spec"]["template"]["spec"]


def test_the_sample_is_carried_out(documents: list[dict[str, Any]]) -> None:
    check(Render(documents))


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [
        ("pod", "hostNetwork", True),
        ("pod", "securityContext", {"sysctls": []}),
        ("container", "stdin", True),
        ("container", "lifecycle", {"postStart": {"exec": {"command": ["x"]}}}),
        ("container", "securityContext", {"capabilities": {"add": ["NET_ADMIN"]}}),
        ("container", "volumeMounts", [{"name": "tmp", "mountPath": "/x", "mountPropagation": "Bidirectional"}]),
    ],
)
def test_a_field_that_nobody_has_declared_stops_the_rehearsal(
    documents: list[dict[str, Any]], where: str, field: str, value: object
) -> None:
    part = pod(documents) if where == "pod" else pod(documents)["containers"][0]
    part[field] = value
    with pytest.raises(RehearsalError, match=r"neither carried out nor declared.*Deployment sample"):
        check(Render(documents))


def test_so_does_a_kind(documents: list[dict[str, Any]]) -> None:
    job = {"kind": "Job", "metadata": {"name": "j"}, "spec": {}}
    with pytest.raises(RehearsalError, match="kind Job"):
        check(Render([*documents, job]))


def test_the_table_names_what_of_this_render_is_left_out(documents: list[dict[str, Any]]) -> None:
    pod(documents)["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
    budget = {"kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": {}}
    rows = {(what, name): text for what, name, text in table(Render([*documents, budget]))}
    assert "no cgroups" in rows["left out", "resources"]
    assert rows["left out", "PodDisruptionBudget"] == KINDS_LEFT_OUT["PodDisruptionBudget"]
    assert ("left out", "affinity") not in rows
    assert ("image", "registry.example.com/adaserve/adaserve-gateway:0.1.0") in rows


def test_the_smallest_example_is_carried_out_to_the_last_variable_and_probe() -> None:
    """So that a change of the chart which the rehearsal cannot follow is seen at once."""
    render = Render.read(ROOT / "deploy" / "k8s" / "renders" / "minimal-cpu.yaml")
    check(render)
    for workload in render.of_kind(*WORKLOADS):
        spec = workload["spec"]["template"]["spec"]
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            environment(container, POD, render)
            image(container["image"])
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                if kind in container:
                    Probe.of(container[kind])
