"""How pods start, are asked how they are, are limited, replaced and ended."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from tests.chart.renders import SERVICES, Container, Document, Pod, Render, matches, where

AFTER_THE_BUDGET_S = 5  # docs/operations.md: above preStop wait, ADASERVE_DRAIN_S and this
DEFAULT_DRAIN_S = {"gateway": 30.0, "verifier": 30.0, "drafter": 1.0, "selector": 1.0}
DEFAULT_GRACE_S = 30  # Kubernetes' own
SETTLES_S = 3.0  # the gateway's least preStop wait: proxies take so long to forget a pod. Others have no callers


def has_resources(render: Render) -> list[str]:
    """Requests of CPU and memory, a limit of memory; no limit of CPU is asked for, since it throttles."""
    found = []
    for container in render.containers():
        resources = container.spec.get("resources") or {}
        for kind, names in (("requests", ("cpu", "memory")), ("limits", ("memory",))):
            missing = [name for name in names if name not in (resources.get(kind) or {})]
            found += [f"{container.where}: resources.{kind}.{name} is missing" for name in missing]
    return found


def bounds_its_temporary_files(render: Render) -> list[str]:
    """An emptyDir without a limit can fill a node; one in memory counts as the pod's."""
    return [
        f"{pod.where}: volume {volume['name']} has no sizeLimit"
        for pod in render.pods()
        for volume in pod.spec.get("volumes") or []
        if "emptyDir" in volume and not (volume["emptyDir"] or {}).get("sizeLimit")
    ]


def _serving(render: Render) -> Iterator[tuple[Pod, Container]]:
    """Containers that stay, of pods that stay."""
    for pod in render.pods():
        if not pod.ends:
            for container in pod.containers(first=False):
                yield pod, container


def is_probed(render: Render) -> list[str]:
    found = []
    for pod, container in _serving(render):
        probes = ["readinessProbe", "livenessProbe"]
        probes += ["startupProbe"] if pod.component in SERVICES else []
        found += [f"{container.where}: no {probe}" for probe in probes if probe not in container.spec]
    return found


def is_probed_where_it_answers(render: Render) -> list[str]:
    """Our services: `/live` and `/ready` of a port that the container has; liveness never asks what asks Redis."""
    paths = {"readinessProbe": "/ready", "livenessProbe": "/live"}
    found = []
    for pod in render.pods_of(*SERVICES):
        for container in pod.containers(first=False):
            ports = {p.get("name") for p in container.spec.get("ports") or []}
            ports |= {p["containerPort"] for p in container.spec.get("ports") or []}
            for probe in ("startupProbe", *paths):
                asked = (container.spec.get(probe) or {}).get("httpGet") or {}
                wanted = {paths[probe]} if probe in paths else set(paths.values())
                if asked.get("path") not in wanted or asked.get("port") not in ports:
                    found.append(f"{container.where}: {probe} asks {asked.get('path')} of {asked.get('port')}")
    return found


def outlasts_its_drain(render: Render) -> list[str]:
    """terminationGracePeriodSeconds above preStop + drain + 5 s."""
    found = []
    for pod in render.pods_of(*SERVICES):
        grace = pod.spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
        for container in pod.containers(first=False):
            needed = (_wait_s(container) or 0) + _drain_s(container) + AFTER_THE_BUDGET_S
            if grace <= needed:
                found.append(f"{container.where}: terminationGracePeriodSeconds {grace} is not above {needed:g}")
    return found


def waits_before_it_ends(render: Render) -> list[str]:
    """The gateway for proxies to forget it; by an exec, since Kubernetes 1.27 knows no `preStop.sleep`."""
    found = []
    for pod in render.pods_of(*SERVICES):
        for container in pod.containers(first=False):
            waits = _wait_s(container)
            if waits is None:
                found.append(f"{container.where}: preStop is no exec that sleeps")
            elif pod.component == "gateway" and waits < SETTLES_S:
                found.append(f"{container.where}: preStop waits {waits:g} s, less than {SETTLES_S:g} s")
    return found


def _wait_s(container: Container) -> float | None:
    """Of preStop: `sleep 5`, `sh -c "sleep 5"`, `python -c "import time; time.sleep(5)"`; 0 without, else None."""
    hook = (container.spec.get("lifecycle") or {}).get("preStop")
    if hook is None:
        return 0.0
    said = re.search(r"\bsleep[ (]+([0-9.]+)", " ".join((hook.get("exec") or {}).get("command") or []))
    return float(said[1]) if said else None


def _drain_s(container: Container) -> float:
    said = container.env.get("ADASERVE_DRAIN_S", {}).get("value")
    return DEFAULT_DRAIN_S.get(container.spec["name"], 0) if said is None else float(said)


def replicas(render: Render, workload: Document) -> tuple[int, int]:
    """Least and most of a workload: its own count, or what an autoscaler may make of it."""
    for scaler in render.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        if (target.get("kind", "Deployment"), target["name"]) == (workload["kind"], workload["metadata"]["name"]):
            return _bounds(scaler)
    count = workload["spec"].get("replicas", 1)
    return count, count


def _bounds(scaler: Document) -> tuple[int, int]:
    spec = scaler["spec"]
    if scaler["kind"] == "ScaledObject":
        return spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
    return spec.get("minReplicas", 1), spec["maxReplicas"]


def _replicated(render: Render) -> Iterator[Document]:
    for workload in render.of_kind("Deployment", "StatefulSet"):
        if replicas(render, workload)[1] > 1:
            yield workload


def survives_a_drained_node(render: Render) -> list[str]:
    """A budget for each workload of more than one replica, and none that could never be met."""
    found = []
    for workload in _replicated(render):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        budgets = [b for b in render.of_kind("PodDisruptionBudget") if matches(b["spec"].get("selector"), labels)]
        if len(budgets) != 1:  # with two of them the API refuses every eviction
            found.append(f"{where(workload)}: {len(budgets)} PodDisruptionBudgets")
    return found


def lets_a_node_be_drained(render: Render) -> list[str]:
    """A budget that allows no disruption at the least number of replicas holds every node's drain up for ever."""
    found = []
    for budget in render.of_kind("PodDisruptionBudget"):
        for workload in render.of_kind("Deployment", "StatefulSet"):
            labels = workload["spec"]["template"]["metadata"]["labels"]
            least = replicas(render, workload)[0]
            if least and matches(budget["spec"].get("selector"), labels) and _spared(budget["spec"], least) < 1:
                found.append(f"{where(budget)}: spares none of {least} pods of {where(workload)}")
    return found


def _spared(spec: Document, pods: int) -> int:
    """How many of so many pods may be evicted at a time; Kubernetes rounds both up."""
    if "maxUnavailable" in spec:
        return _share(spec["maxUnavailable"], pods)
    return pods - _share(spec.get("minAvailable", 1), pods)


def _share(said: Any, pods: int) -> int:
    return math.ceil(pods * float(said[:-1]) / 100) if isinstance(said, str) else int(said)


def leaves_the_count_to_its_autoscaler(render: Render) -> list[str]:
    """With `replicas` beside an autoscaler each upgrade would set the count back."""
    scaled = {
        (s["spec"]["scaleTargetRef"].get("kind", "Deployment"), s["spec"]["scaleTargetRef"]["name"])
        for s in render.of_kind("HorizontalPodAutoscaler", "ScaledObject")
    }
    return [
        f"{where(workload)}: replicas is set, and so is an autoscaler"
        for workload in render.of_kind("Deployment", "StatefulSet")
        if (workload["kind"], workload["metadata"]["name"]) in scaled and "replicas" in workload["spec"]
    ]


def can_be_upgraded(render: Render) -> list[str]:
    """A selector cannot be changed later, so it holds nothing that a release changes."""
    changing = ("helm.sh/chart", "app.kubernetes.io/version")
    return [
        f"{where(workload)}: selector has {label}"
        for workload in render.of_kind("Deployment", "StatefulSet", "DaemonSet")
        for label in changing
        if label in workload["spec"]["selector"]["matchLabels"]
    ]


def tries_so_often(render: Render) -> list[str]:
    """A Job says how often. It has no deadline: how long a model takes to fetch nobody knows."""
    return [f"{where(job)}: no backoffLimit" for job in render.of_kind("Job") if "backoffLimit" not in job["spec"]]


POLICIES = (
    has_resources,
    bounds_its_temporary_files,
    is_probed,
    is_probed_where_it_answers,
    outlasts_its_drain,
    waits_before_it_ends,
    survives_a_drained_node,
    lets_a_node_be_drained,
    leaves_the_count_to_its_autoscaler,
    can_be_upgraded,
    tries_so_often,
)
