"""The committed renders of the chart's examples, as documents, pods and containers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy/k8s"
SERVICES = ("gateway", "drafter", "selector", "verifier")
COMPONENT = "app.kubernetes.io/component"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Document = dict[str, Any]


class Container(NamedTuple):
    """One container of a pod; ``where`` says which in words."""

    where: str
    spec: Document
    starts_first: bool  # an init container

    @property
    def env(self) -> dict[str, Document]:
        return {entry["name"]: entry for entry in self.spec.get("env") or []}


@dataclass(frozen=True)
class Pod:
    """A pod template and the document that owns it."""

    owner: Document
    labels: dict[str, str]
    spec: Document

    @property
    def where(self) -> str:
        return where(self.owner)

    @property
    def component(self) -> str:
        """What the pod is; "" where its labels do not say."""
        return self.labels.get(COMPONENT, "")

    @property
    def ends(self) -> bool:
        """Whether its end is its purpose, as a Job's."""
        return self.owner["kind"] in ("Job", "CronJob", "Pod")

    def containers(self, *, first: bool = True) -> Iterator[Container]:
        """All of them; without ``first`` no init containers, but for those that go on running."""
        for container in self.spec.get("initContainers") or []:
            stays = container.get("restartPolicy") == "Always"
            if first or stays:
                yield Container(f"{self.where} {container['name']}", container, not stays)
        for container in self.spec["containers"]:
            yield Container(f"{self.where} {container['name']}", container, False)


@dataclass(frozen=True)
class Render:
    """The documents of one example, and the values that it was made of: the example's over the chart's."""

    name: str
    documents: list[Document]
    values: Document

    def of_kind(self, *kinds: str) -> list[Document]:
        return [document for document in self.documents if document["kind"] in kinds]

    def pods(self) -> Iterator[Pod]:
        for document in self.documents:
            if (template := _template(document)) is not None:
                labels = template.get("metadata", {}).get("labels") or {}
                yield Pod(document, labels, template["spec"])

    def pods_of(self, *components: str) -> list[Pod]:
        return [pod for pod in self.pods() if pod.component in components]

    def containers(self, *, first: bool = True) -> Iterator[Container]:
        for pod in self.pods():
            yield from pod.containers(first=first)

    def copy(self) -> Render:
        """One that a test may spoil."""
        return Render(self.name, copy.deepcopy(self.documents), copy.deepcopy(self.values))


def where(document: Document) -> str:
    """As `Deployment/name`."""
    return f"{document['kind']}/{document['metadata']['name']}"


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector, of either spelling, takes these labels. An empty one takes all, None none."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    asked = selector.get("matchExpressions") or []
    return wanted.items() <= labels.items() and all(_holds(expression, labels) for expression in asked)


def _holds(expression: Document, labels: Mapping[str, str]) -> bool:
    found = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return found in expression["values"]
        case "NotIn":
            return found not in expression["values"]
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
    raise ValueError(f"operator {expression['operator']!r} is none of In, NotIn, Exists, DoesNotExist")


def _template(document: Document) -> Document | None:
    spec = document.get("spec") or {}
    match document["kind"]:
        case "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicaSet":
            return spec["template"]
        case "CronJob":
            return spec["jobTemplate"]["spec"]["template"]
        case "Pod":
            return document
    return None


def merged(base: Document, over: Document) -> Document:
    """As helm lays one file of values over another: maps are joined, all else is replaced, null removes."""
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def documents_in(text: str) -> list[Document]:
    return [document for document in yaml.load_all(text, Loader=LOADER) if document]


@cache
def default_values() -> Document:
    """values.yaml."""
    return yaml.load((CHART / "values.yaml").read_text(encoding="utf-8"), Loader=LOADER)


@cache
def renders() -> tuple[Render, ...]:
    """All committed ones. Never change what is in them: `copy` first."""
    found = []
    for path in sorted((CHART / "renders").glob("*.yaml")):
        example = yaml.load((CHART / "examples" / path.name).read_text(encoding="utf-8"), Loader=LOADER)
        documents = documents_in(path.read_text(encoding="utf-8"))
        found.append(Render(path.stem, documents, merged(default_values(), example or {})))
    return tuple(found)
