"""Nothing is open but what is used: the ways that environments, arguments and configuration files name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.chart.policies.pods import TALKS_TO_THE_API
from tests.chart.policies.references import ports_of
from tests.chart.reach import ANY, OUTSIDE, Edge, inner_edges, outer_edges, policies_of
from tests.chart.renders import COMPONENT, SERVICES, Document, Pod, Render, matches, merged, where

DNS = 53
API_SERVER = (443, 6443)  # its Service's port and its own: policies are applied to either, by network plugin
SCHEMES = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}
SCRAPED = (*SERVICES, "redis-exporter", "collector")  # components that a Prometheus elsewhere may ask

_URL = re.compile(r"\b(https?|rediss?)://([a-zA-Z0-9.-]+)(?::(\d+))?")
_ENDPOINT = re.compile(r"\bendpoint: \"?([a-z][a-z0-9.-]*):(\d+)")  # in a collector's configuration
_ADDRESS = re.compile(r"(?<![\w.:/-])([a-z][a-z0-9-]*(?:\.[a-z0-9.-]+)?):(\d{2,5})\b")


def denies_by_default(render: Render) -> list[str]:
    """A pod of the release that no rule knows may neither be asked nor ask, but for names."""
    any_pod = next(render.pods())
    stray = {name: value for name, value in any_pod.labels.items() if name != COMPONENT}
    found = []
    for direction, rules in (("Ingress", "ingress"), ("Egress", "egress")):
        policies = policies_of(render, stray, direction)
        found += [] if policies else [f"{direction}: nothing denies by default"]
        for policy in policies:
            open_ports = {p.get("port") for r in policy["spec"].get(rules) or [] for p in r.get("ports") or [{}]}
            found += [f"{where(policy)}: allows all pods {port}" for port in open_ports - {DNS}]
    return found


def leaves_the_neighbours_alone(render: Render) -> list[str]:
    """No policy takes pods of the namespace that are not the release's."""
    return [f"{where(p)} takes foreign pods" for p in render.of_kind("NetworkPolicy") if _takes_anyone(p)]


def _takes_anyone(policy: Document) -> bool:
    return matches(policy["spec"].get("podSelector") or {}, {"app.kubernetes.io/name": "somebody-else"})


def opens_what_is_needed(render: Render) -> list[str]:
    """Inside the release, and out of it."""
    outer = outer_edges(render)
    missing = needed_inside(render) - inner_edges(render)
    missing |= {edge for edge in needed_outside(render) if not {edge, edge._replace(port=ANY)} & outer}
    return [f"{edge.source} cannot reach {edge.target}:{edge.port}" for edge in sorted(missing)]


def opens_nothing_else_inside(render: Render) -> list[str]:
    extra = inner_edges(render) - needed_inside(render)
    return [f"{edge.source} may reach {edge.target}:{edge.port}, and need not" for edge in sorted(extra)]


def opens_nothing_else_outside(render: Render) -> list[str]:
    """Ways out beyond the needed ones, and ways in beyond clients to the gateway, scrapes and what values open."""
    extra = outer_edges(render) - needed_outside(render) - _scrapes(render)
    extra -= _declared(render)
    return [f"{edge.source} may reach {edge.target}:{edge.port}, and need not" for edge in sorted(extra)]


def only_the_gateway_is_open_to_all(render: Render) -> list[str]:
    """Other pods name who may ask them: a rule without peers, or with addresses, is for the gateway alone."""
    found = []
    for pod in render.pods():
        if pod.component == "gateway":
            continue
        for policy in policies_of(render, pod.labels, "Ingress"):
            peers = [rule.get("from") or [] for rule in policy["spec"].get("ingress") or []]
            wide = [rule for rule in peers if not rule or any("ipBlock" in peer for peer in rule)]
            found += [f"{where(policy)}: {pod.component} is open to all" for _ in wide]
    return found


def needed_inside(render: Render) -> set[Edge]:
    """A way from each pod to each Service of the render that something in it names."""
    services = {s["metadata"]["name"]: s for s in render.of_kind("Service")}
    found = set()
    for pod in render.pods():
        for host, port in _named(render, pod):
            service = services.get(host.partition(".")[0])
            if service is not None:
                found |= {Edge(pod.component, *end) for end in _behind(render, service, port)}
    return {edge for edge in found if edge.source != edge.target}


def _behind(render: Render, service: Document, port: int) -> Iterator[tuple[str, int]]:
    """Component and container port behind a Service's port."""
    for entry in service["spec"]["ports"]:
        for pod in render.pods():
            if entry["port"] == port and matches({"matchLabels": service["spec"]["selector"]}, pod.labels):
                target = entry.get("targetPort", port)
                yield pod.component, ports_of(pod).get(target, port)


def needed_outside(render: Render) -> set[Edge]:
    """Clients to the gateway; each pod to DNS, and to hosts that it names which are no Service of the render."""
    services = {s["metadata"]["name"] for s in render.of_kind("Service")}
    found = {Edge(OUTSIDE, pod.component, ports_of(pod)["http"]) for pod in render.pods_of("gateway")}
    for pod in render.pods():
        named = list(_named(render, pod))
        found.add(Edge(pod.component, OUTSIDE, DNS))
        found |= {Edge(pod.component, OUTSIDE, p) for host, p in named if host.partition(".")[0] not in services}
        if any(TALKS_TO_THE_API in container.env for container in pod.containers()):
            found |= {Edge(pod.component, OUTSIDE, port) for port in API_SERVER}
    return found


def _scrapes(render: Render) -> set[Edge]:
    return {
        Edge(OUTSIDE, pod.component, number)
        for pod in render.pods_of(*SCRAPED)
        for name, number in ports_of(pod).items()
        if str(name).startswith(("http", "metrics"))
    }


def _declared(render: Render) -> set[Edge]:
    """What an example opens in so many words: `extraEgress` of a service, `from` of the chart's own parts."""
    found = set()
    for pod in render.pods():
        service = merged(render.values["defaults"], render.values["services"].get(pod.component) or {})
        rules = service["networkPolicy"]["extraEgress"] if pod.component in SERVICES else []
        found |= {Edge(pod.component, OUTSIDE, port["port"]) for rule in rules for port in rule.get("ports") or []}
        if (render.values["networkPolicy"].get(pod.component) or {}).get("from"):
            found |= {Edge(OUTSIDE, pod.component, port) for port in ports_of(pod).values()}
    return found


def _named(render: Render, pod: Pod) -> set[tuple[str, int]]:
    """Hosts and ports in the pod's environment, arguments and mounted ConfigMaps; loopback is nobody."""
    texts = []
    for container in pod.containers():
        texts += [str(entry.get("value", "")) for entry in container.env.values()]
        texts += [*(container.spec.get("command") or []), *(container.spec.get("args") or [])]
    texts += _configuration(render, pod)
    services = {s["metadata"]["name"] for s in render.of_kind("Service")}
    found = set()
    for text in texts:
        for scheme, host, port in _URL.findall(text):
            found.add((host, int(port or SCHEMES[scheme])))
        found |= {(h, int(p)) for h, p in _ENDPOINT.findall(text)}
        found |= {(h, int(p)) for h, p in _ADDRESS.findall(text) if h.partition(".")[0] in services}
    return {(host, port) for host, port in found if host not in ("localhost", "127.0.0.1", "0.0.0.0")}


def _configuration(render: Render, pod: Pod) -> Iterator[str]:
    """ConfigMaps that the pod mounts: also a policy of tenants may name an address, its `upstream`."""
    names = {(v.get("configMap") or {}).get("name") for v in pod.spec.get("volumes") or []}
    for document in render.of_kind("ConfigMap"):
        if document["metadata"]["name"] in names:
            yield from (document.get("data") or {}).values()


POLICIES = (
    denies_by_default,
    leaves_the_neighbours_alone,
    opens_what_is_needed,
    opens_nothing_else_inside,
    opens_nothing_else_outside,
    only_the_gateway_is_open_to_all,
)
