"""Who speaks to whom, as the kernel tells, held against the NetworkPolicies, which nothing enforces here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.rehearsal.manifests import Document, Render
from deploy.rehearsal.pod import Pod
from deploy.rehearsal.probes import port_number
from deploy.rehearsal.services import Service

LOOK_S = 1.0
ESTABLISHED = "01"
COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True, slots=True)
class Edge:
    """A connection that pods of one component hold to another's port."""

    source: str
    destination: str
    port: int


class Edges:
    """Those seen so far, and how many of them no policy allows."""

    def __init__(self, render: Render, pods: Callable[[], Sequence[Pod]], services: Sequence[Service]) -> None:
        self.seen: set[Edge] = set()
        self.forbidden: set[Edge] = set()
        self._policies = list(render.of_kind("NetworkPolicy"))
        self._pods, self._services = pods, services

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """At every pod's connections of now."""
        pods = list(self._pods())
        behind = {pod.identity.ip: pod for pod in pods}
        for pod in pods:
            for address, port in connections(pod.network_file):
                found = self._destination(behind, pods, address, port)
                if found is not None:
                    self._note(pod, *found)

    def _destination(
        self, behind: Mapping[str, Pod], pods: Sequence[Pod], address: str, port: int
    ) -> tuple[Pod, int] | None:
        """The pod and its port; of a Service any pod stands for all. None for a pod's answer to a client."""
        if address in behind:
            pod = behind[address]
            return (pod, port) if port in pod.all_ports else None
        for service in self._services:
            if service.ip == address and (target := service.target(port)) is not None:
                chosen = [pod for pod in pods if service.selects(pod)]
                return (chosen[0], port_number(target, chosen[0].ports)) if chosen else None
        return None

    def _note(self, source: Pod, destination: Pod, port: int) -> None:
        ours, theirs = source.identity.labels, destination.identity.labels
        edge = Edge(ours.get(COMPONENT, source.name), theirs.get(COMPONENT, destination.name), port)
        self.seen.add(edge)
        if not allowed(self._policies, ours, theirs, port, destination.ports):
            self.forbidden.add(edge)


def connections(table: Path) -> Iterator[tuple[str, int]]:
    """Remote address and port of the connections in a ``/proc/<pid>/net/tcp``."""
    with contextlib.suppress(OSError):  # the pod has ended
        for line in table.read_text().splitlines()[1:]:
            _, _, remote, state, *_ = line.split()
            if state == ESTABLISHED:
                address, port = remote.split(":")
                yield ".".join(str(part) for part in reversed(bytes.fromhex(address))), int(port, 16)


def allowed(
    policies: Sequence[Document],
    source: Mapping[str, str],
    destination: Mapping[str, str],
    port: int,
    names: Mapping[str, int],
) -> bool:
    """Whether a connection is let out and let in. ``names`` are the destination's ports."""
    return _passes(policies, "Egress", source, destination, port, names) and _passes(
        policies, "Ingress", destination, source, port, names
    )


def _passes(
    policies: Sequence[Document],
    direction: str,
    subject: Mapping[str, str],
    peer: Mapping[str, str],
    port: int,
    names: Mapping[str, int],
) -> bool:
    """Whoever no policy of this direction concerns may do everything."""
    concerned = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"].get("policyTypes", ["Ingress"])
        and chooses(policy["spec"].get("podSelector", {}), subject)
    ]
    field = "to" if direction == "Egress" else "from"
    rules = [rule for spec in concerned for rule in spec.get(direction.lower()) or ()]
    return not concerned or any(
        _names_port(rule.get("ports"), port, names) and _names_peer(rule.get(field), peer) for rule in rules
    )


def _names_port(ports: Sequence[Mapping[str, Any]] | None, port: int, names: Mapping[str, int]) -> bool:
    if not ports:
        return True
    return any(
        one.get("protocol", "TCP") == "TCP"
        and ("port" not in one or port_number(one["port"], names) <= port <= one.get("endPort", _last(one, names)))
        for one in ports
    )


def _last(one: Mapping[str, Any], names: Mapping[str, int]) -> int:
    return port_number(one["port"], names)


def _names_peer(peers: Sequence[Mapping[str, Any]] | None, labels: Mapping[str, str]) -> bool:
    """Of the release's own namespace, whose labels nobody knows here; addresses name nobody in it."""
    if not peers:
        return True
    return any(
        not peer.get("namespaceSelector")
        and "ipBlock" not in peer
        and chooses(peer.get("podSelector", {}), labels)
        for peer in peers
    )


def chooses(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A label selector; an empty one chooses everybody."""
    wanted = selector.get("matchLabels") or {}
    return wanted.items() <= labels.items() and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions") or ()
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, operator = labels.get(expression["key"]), expression["operator"]
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) is (operator == "Exists")
    return (value in expression["values"]) is (operator == "In")
