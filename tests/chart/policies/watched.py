"""What scales the workloads and what scrapes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.chart.policies.mounts import external_names
from tests.chart.policies.references import ports_of
from tests.chart.renders import SERVICES, Pod, Render, matches, where

SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


def scales_what_there_is(render: Render) -> list[str]:
    there = {(d["kind"], d["metadata"]["name"]) for d in render.documents}
    found = []
    for scaler in render.of_kind(*SCALERS):
        target = scaler["spec"]["scaleTargetRef"]
        if (target.get("kind", "Deployment"), target["name"]) not in there:
            found.append(f"{where(scaler)}: there is no {target['name']}")
        for trigger in scaler["spec"].get("triggers") or []:
            wanted = (trigger.get("authenticationRef") or {}).get("name")
            if wanted and ("TriggerAuthentication", wanted) not in there and wanted not in external_names(render):
                found.append(f"{where(scaler)}: there is no TriggerAuthentication {wanted}")
    return found


def is_scaled_once(render: Render) -> list[str]:
    """Two autoscalers of one workload fight."""
    targets = Counter(scaler["spec"]["scaleTargetRef"]["name"] for scaler in render.of_kind(*SCALERS))
    return [f"{name} is scaled twice" for name, times in targets.items() if times > 1]


def monitors_what_there_is(render: Render) -> list[str]:
    """A monitor's selector takes at least one Service or pod, and each port that it scrapes one of them has."""
    found = []
    for monitor in render.of_kind("ServiceMonitor", "PodMonitor"):
        service = monitor["kind"] == "ServiceMonitor"
        selector = monitor["spec"]["selector"]
        if service:
            taken = [s for s in render.of_kind("Service") if matches(selector, s["metadata"].get("labels") or {})]
            ports = [{p.get("name") for p in s["spec"]["ports"]} for s in taken]
        else:
            ports = [set(ports_of(pod)) for pod in render.pods() if matches(selector, pod.labels)]
        if not ports:
            found.append(f"{where(monitor)}: selector takes nothing")
        asked = [
            endpoint["port"] for endpoint in monitor["spec"]["endpoints" if service else "podMetricsEndpoints"]
        ]
        found += [f"{where(monitor)}: no port {port}" for port in asked if not any(port in p for p in ports)]
    return found


def scrapes_each_once(render: Render) -> list[str]:
    """Where anything is scraped, each service is, and once: two monitors would count everything twice."""
    if not render.of_kind("ServiceMonitor", "PodMonitor"):
        return []
    found = []
    for pod in render.pods_of(*SERVICES):
        times = Counter(_scraped(render, pod))
        for container in pod.containers(first=False):
            ports = [port["containerPort"] for port in container.spec.get("ports") or []]
            found += [
                f"{container.where}: {port} is scraped {times[port]} times" for port in ports if times[port] != 1
            ]
    return found


def _scraped(render: Render, pod: Pod) -> Iterator[int]:
    """The pod's ports, once for each monitor that asks them."""
    ports = ports_of(pod)
    for monitor in render.of_kind("PodMonitor"):
        if matches(monitor["spec"]["selector"], pod.labels):
            yield from (
                ports[one["port"]] for one in monitor["spec"]["podMetricsEndpoints"] if one["port"] in ports
            )
    for monitor in render.of_kind("ServiceMonitor"):
        asked = {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]}
        for service in render.of_kind("Service"):
            labels = service["metadata"].get("labels") or {}
            if (
                matches(monitor["spec"]["selector"], labels)
                and service["spec"]["selector"].items() <= pod.labels.items()
            ):
                yield from (ports[p["targetPort"]] for p in service["spec"]["ports"] if p.get("name") in asked)


POLICIES = (scales_what_there_is, is_scaled_once, monitors_what_there_is, scrapes_each_once)
