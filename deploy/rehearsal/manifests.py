"""The documents of a release, as Helm rendered them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Document = Mapping[str, Any]
WORKLOADS = ("StatefulSet", "Deployment")
NAMESPACE = "adaserve"  # of documents that name none: `helm install --namespace`


class RehearsalError(Exception):
    """The render asks for what this node cannot do, or contradicts itself; says which document and field."""


class Render:
    """All documents of one release."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = list(documents)

    @classmethod
    def read(cls, path: Path) -> Render:
        """Raises RehearsalError for a file that is no render."""
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise RehearsalError(f"{path}: {error}") from None

    @classmethod
    def parse(cls, text: str) -> Render:
        """Raises yaml.YAMLError."""
        return cls([document for document in yaml.safe_load_all(text) if document])

    def of_kind(self, *kinds: str) -> Iterator[Document]:
        """In the order of `kinds`."""
        for kind in kinds:
            yield from (document for document in self.documents if document["kind"] == kind)

    def get(self, kind: str, name: str) -> Document:
        """Raises RehearsalError where there is none."""
        for document in self.of_kind(kind):
            if document["metadata"]["name"] == name:
                return document
        raise RehearsalError(f"{kind} {name}: not in the render")

    def find(self, kind: str, name: str, *, is_optional: bool) -> Document | None:
        """As `get`; None where it is not there and need not be."""
        found = [one for one in self.of_kind(kind) if one["metadata"]["name"] == name]
        return None if is_optional and not found else self.get(kind, name)

    @property
    def namespace(self) -> str:
        """The one that all documents live in."""
        named = {document["metadata"].get("namespace") for document in self.documents} - {None}
        if len(named) > 1:
            raise RehearsalError(f"the render has more than one namespace: {', '.join(sorted(named))}")
        return str(named.pop()) if named else NAMESPACE


def component(workload: Document) -> str:
    """``app.kubernetes.io/component`` of its pods: gateway, drafter, selector, verifier, redis."""
    labels = workload["spec"]["template"]["metadata"]["labels"]
    return str(labels.get("app.kubernetes.io/component", workload["metadata"]["name"]))


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether every label of the selector is there. An empty one selects nothing, as a Service's."""
    return bool(selector) and selector.items() <= labels.items()
