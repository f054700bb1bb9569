"""Who may talk to whom by a render's NetworkPolicies, as Kubernetes defines them.

A pod that no policy selects for a direction is open in it; a selected one may do what any of its policies allows.
Probes and port-forwarding come from the node and are not policies' affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.chart.policies.references import ports_of
from tests.chart.renders import Document, Pod, Render, matches

OUTSIDE = "outside"  # whatever is no pod of the release: clients, other namespaces, the internet
ANY = 0  # every port

DIRECTIONS = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}


class Edge(NamedTuple):
    """A way that is open: components, or OUTSIDE, and a port number or ANY."""

    source: str
    target: str
    port: int


def policies_of(render: Render, labels: dict[str, str], direction: str) -> list[Document]:
    """Policies that select such a pod for "Ingress" or "Egress"."""
    return [
        policy
        for policy in render.of_kind("NetworkPolicy")
        if direction in _types(policy) and matches(policy["spec"].get("podSelector") or {}, labels)
    ]


def _types(policy: Document) -> list[str]:
    implied = ["Ingress", "Egress"] if "egress" in policy["spec"] else ["Ingress"]
    return policy["spec"].get("policyTypes", implied)


def _rules(render: Render, pod: Pod, direction: str) -> Iterator[tuple[list[Document], list[Document]]]:
    """Peers and ports of each rule of the pod's policies; no peers are all peers."""
    rules, peers = DIRECTIONS[direction]
    for policy in policies_of(render, pod.labels, direction):
        for rule in policy["spec"].get(rules) or []:
            yield rule.get(peers) or [], rule.get("ports") or []


def _within(peers: list[Document], other: Pod) -> bool:
    """Whether they take a pod of the same namespace. A namespaceSelector might, unless it names another one."""
    if not peers:
        return True
    for peer in peers:
        selected = matches(peer.get("podSelector", {}), other.labels)
        if "ipBlock" not in peer and selected and "namespaceSelector" not in peer:
            return True
    return False


def _leaves(peers: list[Document]) -> bool:
    """Whether they take anything that is no pod of the namespace."""
    return not peers or any("ipBlock" in peer or "namespaceSelector" in peer for peer in peers)


def _numbers(ports: list[Document], pod: Pod | None) -> set[int]:
    """Port numbers of a rule, names as `pod` has them; ANY where it limits none."""
    if not ports:
        return {ANY}
    named = ports_of(pod) if pod is not None else {}
    return {named.get(port.get("port", ANY), port.get("port", ANY)) for port in ports}


def _allows(render: Render, pod: Pod, direction: str, other: Pod, port: int, owner: Pod) -> bool:
    """Whether `pod` may talk with `other` in this direction over a port, which is `owner`'s."""
    if not policies_of(render, pod.labels, direction):
        return True
    return any(
        _within(peers, other) and {ANY, port} & _numbers(ports, owner)
        for peers, ports in _rules(render, pod, direction)
    )


def inner_edges(render: Render) -> set[Edge]:
    """Between pods of the release, over ports that they have."""
    pods = list(render.pods())
    return {
        Edge(source.component, target.component, port)
        for source in pods
        for target in pods
        if source.component != target.component
        for port in set(ports_of(target).values())
        if _allows(render, source, "Egress", target, port, target)
        and _allows(render, target, "Ingress", source, port, target)
    }


def outer_edges(render: Render) -> set[Edge]:
    """To and from what is no pod of the release."""
    found = set()
    for pod in render.pods():
        found |= {Edge(OUTSIDE, pod.component, port) for port in _open(render, pod, "Ingress")}
        found |= {Edge(pod.component, OUTSIDE, port) for port in _open(render, pod, "Egress")}
    return found


def _open(render: Render, pod: Pod, direction: str) -> set[int]:
    if not policies_of(render, pod.labels, direction):
        return {ANY}
    own = pod if direction == "Ingress" else None
    rules = _rules(render, pod, direction)
    return {number for peers, ports in rules if _leaves(peers) for number in _numbers(ports, own)}
