"""What one document says of another: selectors, ports, hosts, backends."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from tests.chart.renders import Document, Pod, Render, matches, where


def selects_its_own_pods(render: Render) -> list[str]:
    """A workload's selector takes its own pods, and nobody else's."""
    found = []
    for workload in render.of_kind("Deployment", "StatefulSet", "DaemonSet"):
        taken = [where(pod.owner) for pod in render.pods() if matches(workload["spec"]["selector"], pod.labels)]
        if taken != [where(workload)]:
            found.append(f"{where(workload)}: selector takes {taken}")
    return found


def _pods_behind(render: Render, selector: dict[str, str]) -> list[Pod]:
    return [pod for pod in render.pods() if matches({"matchLabels": selector}, pod.labels)]


def sends_to_ports_that_there_are(render: Render) -> list[str]:
    """Each Service takes the pods of one workload, and each targetPort is one of their ports."""
    found = []
    for service in render.of_kind("Service"):
        pods = _pods_behind(render, service["spec"].get("selector") or {})
        if len(pods) != 1:
            found.append(f"{where(service)}: selector takes {[pod.where for pod in pods]}")
        for pod in pods:
            asked = [port.get("targetPort", port["port"]) for port in service["spec"]["ports"]]
            found += [f"{where(service)}: {pod.where} has no port {p}" for p in asked if p not in ports_of(pod)]
    return found


def ports_of(pod: Pod) -> dict[object, int]:
    """Name and number of each port of the pod's containers, to its number."""
    ports = [port for container in pod.containers(first=False) for port in container.spec.get("ports") or []]
    named = {port["name"]: port["containerPort"] for port in ports if "name" in port}
    return named | {port["containerPort"]: port["containerPort"] for port in ports}


def is_found_by_name(render: Render) -> list[str]:
    """A host of the release that a variable or a route names is a Service of it, with that port."""
    services = {s["metadata"]["name"]: {p["port"] for p in s["spec"]["ports"]} for s in render.of_kind("Service")}
    found = []
    for pod in render.pods():
        prefix = pod.labels.get("app.kubernetes.io/instance", "")
        for container in pod.containers():
            for name, entry in container.env.items():
                for host, port in _addresses(str(entry.get("value", ""))):
                    if host.partition(".")[0].startswith(f"{prefix}-") and port not in services.get(host, ()):
                        found.append(f"{container.where}: {name} asks {host}:{port}, which no Service is")
    return found


def _addresses(text: str) -> Iterator[tuple[str, int]]:
    for host, port in re.findall(r"\b[a-z]+://([a-z0-9.-]+):(\d+)", text):
        yield host, int(port)


def routes_to_services(render: Render) -> list[str]:
    """Backends of Ingresses and HTTPRoutes are Services of the render, with that port."""
    found = []
    for document in render.of_kind("Ingress", "HTTPRoute"):
        for name, port in _backends(document):
            services = [s for s in render.of_kind("Service") if s["metadata"]["name"] == name]
            ports = [p for s in services for p in s["spec"]["ports"]]
            if not any(port in (p["port"], p.get("name")) for p in ports):
                found.append(f"{where(document)}: no Service {name} with port {port}")
    return found


def _backends(document: Document) -> Iterator[tuple[str, object]]:
    for rule in document["spec"].get("rules") or []:
        for path in (rule.get("http") or {}).get("paths") or []:
            service = path["backend"]["service"]
            yield service["name"], service["port"].get("name") or service["port"].get("number")
        for backend in rule.get("backendRefs") or []:
            yield backend["name"], backend["port"]


def has_no_double(render: Render) -> list[str]:
    """One document of each kind and name."""
    times = Counter((where(d), d["metadata"].get("namespace", "")) for d in render.documents)
    return [f"{name} is there twice" for (name, _), count in times.items() if count > 1]


def says_whose_it_is(render: Render) -> list[str]:
    """The labels that Kubernetes recommends, on every document and pod."""
    wanted = [f"app.kubernetes.io/{word}" for word in ("name", "instance", "component", "version", "managed-by")]
    found = []
    for document in render.documents:
        labels = document["metadata"].get("labels") or {}
        found += [f"{where(document)}: no label {label}" for label in wanted if label not in labels]
    for pod in render.pods():
        found += [f"{pod.where}: its pods have no label {lab}" for lab in wanted[:3] if lab not in pod.labels]
    return found


POLICIES = (
    selects_its_own_pods,
    sends_to_ports_that_there_are,
    is_found_by_name,
    routes_to_services,
    has_no_double,
    says_whose_it_is,
)
