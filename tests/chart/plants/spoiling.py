"""Finding what to spoil, and spoiling it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.chart.renders import Document, Pod, Render

Policy = Callable[[Render], list[str]]
Plant = Callable[[Render], object]
Plants = list[tuple[Policy, Plant]]


def document(render: Render, kind: str, ending: str = "") -> Document:
    """The first of a kind whose name ends so."""
    for found in render.of_kind(kind):
        if found["metadata"]["name"].endswith(ending):
            return found
    raise LookupError(f"{render.name}: no {kind} …{ending}")


def pod(render: Render, component: str = "verifier") -> Pod:
    for found in render.pods_of(component):
        return found
    raise LookupError(f"{render.name}: no pods of {component}")


def container(render: Render, component: str = "verifier") -> Document:
    """The component's first."""
    return pod(render, component).spec["containers"][0]


def volume(render: Render, component: str, kind: str) -> Document:
    """The first volume of a kind, `secret` for example."""
    for found in pod(render, component).spec["volumes"]:
        if kind in found:
            return found
    raise LookupError(f"{render.name}: no {kind} in {component}")


def setting(name: str, value: str, component: str = "verifier") -> Plant:
    """A variable added to a service."""
    return lambda render: container(render, component)["env"].append({"name": name, "value": value})


def in_pod(component: str = "verifier", **fields: Any) -> Plant:
    """Fields of the pod's spec."""
    return lambda render: pod(render, component).spec.update(fields)


def in_container(component: str = "verifier", **fields: Any) -> Plant:
    return lambda render: container(render, component).update(fields)


def removed(kind: str, ending: str = "") -> Plant:
    return lambda render: render.documents.remove(document(render, kind, ending))


def beside(render: Render, kind: str, ending: str = "", **metadata: str) -> Document:
    """A twin of a document, put beside it; under another name if one is given."""
    twin = document(render.copy(), kind, ending)
    twin["metadata"] |= metadata
    render.documents.append(twin)
    return twin
