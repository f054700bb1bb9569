"""Pods without limits or probes, that end too early, or that hold up a node or an upgrade."""

from __future__ import annotations

from typing import Any

from tests.chart.plants.spoiling import (
    Plant,
    Plants,
    container,
    document,
    in_container,
    in_pod,
    pod,
    removed,
    setting,
    volume,
)
from tests.chart.policies import life as policies
from tests.chart.policies.watched import SCALERS
from tests.chart.renders import Render


def asked(probe: str, path: str) -> Plant:
    return lambda render: container(render)[probe]["httpGet"].update({"path": path})


def pre_stop(**hook: Any) -> Plant:
    return in_container("gateway", lifecycle={"preStop": hook})


def unlimited_files(render: Render) -> None:
    volume(render, "verifier", "emptyDir")["emptyDir"] = {}


def two_replicas_and_no_budget(render: Render) -> None:
    document(render, "Deployment", "-gateway")["spec"]["replicas"] = 2
    removed("PodDisruptionBudget", "-gateway")(render)


def unmeetable_budget(render: Render) -> None:
    spec = document(render, "PodDisruptionBudget", "-gateway")["spec"]
    spec.pop("maxUnavailable", None)
    spec["minAvailable"] = "100%"


def counted_and_scaled(render: Render) -> None:
    for scaler in render.of_kind(*SCALERS):
        document(render, "Deployment", scaler["spec"]["scaleTargetRef"]["name"])["spec"]["replicas"] = 2
        return
    raise LookupError("nothing is scaled")


def changing_selector(render: Render) -> None:
    pod(render).owner["spec"]["selector"]["matchLabels"]["app.kubernetes.io/version"] = "0.1.0"


PLANTS: Plants = [
    (policies.has_resources, lambda r: container(r)["resources"]["requests"].pop("cpu")),
    (policies.has_resources, lambda r: container(r, "redis")["resources"].pop("limits")),
    (policies.bounds_its_temporary_files, unlimited_files),
    (policies.is_probed, lambda r: container(r).pop("startupProbe")),
    (policies.is_probed, lambda r: container(r, "redis").pop("livenessProbe")),
    (policies.is_probed_where_it_answers, asked("livenessProbe", "/ready")),
    (policies.is_probed_where_it_answers, asked("startupProbe", "/health")),
    (policies.outlasts_its_drain, in_pod("gateway", terminationGracePeriodSeconds=40)),
    (policies.outlasts_its_drain, setting("ADASERVE_DRAIN_S", "300")),
    (policies.waits_before_it_ends, pre_stop(exec={"command": ["sleep", "1"]})),
    (policies.waits_before_it_ends, pre_stop(sleep={"seconds": 5})),
    (policies.survives_a_drained_node, two_replicas_and_no_budget),
    (policies.lets_a_node_be_drained, unmeetable_budget),
    (policies.leaves_the_count_to_its_autoscaler, counted_and_scaled),
    (policies.can_be_upgraded, changing_selector),
    (policies.tries_so_often, lambda r: document(r, "Job")["spec"].pop("backoffLimit")),
]
