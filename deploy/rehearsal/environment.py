"""The environment of a container, as the kubelet makes it from ``env``, ``envFrom`` and the pod."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.rehearsal.manifests import Document, RehearsalError, Render

_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_][A-Za-z0-9_.-]*)\))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the downward API tells of a pod."""

    name: str
    namespace: str
    uid: str
    ip: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    service_account: str
    node_name: str = "rehearsal"
    node_ip: str = "10.77.0.1"

    def field(self, path: str) -> str:
        """The value of a ``fieldRef``. Raises RehearsalError for a path that pods do not have."""
        known = {
            "metadata.name": self.name,
            "metadata.namespace": self.namespace,
            "metadata.uid": self.uid,
            "status.podIP": self.ip,
            "status.podIPs": self.ip,
            "status.hostIP": self.node_ip,
            "spec.nodeName": self.node_name,
            "spec.serviceAccountName": self.service_account,
        }
        keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
        if keyed is not None:
            return (self.labels if keyed[1] == "labels" else self.annotations).get(keyed[2], "")
        if path not in known:
            raise RehearsalError(f"fieldPath {path}: unknown")
        return known[path]


def environment(container: Document, identity: Identity, render: Render) -> dict[str, str]:
    """Later entries win, and may refer to earlier ones by ``$(NAME)``. Raises RehearsalError."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= _all_of(source, render)
    for entry in container.get("env", ()):
        if "value" in entry or "valueFrom" not in entry:
            found[entry["name"]] = expanded(str(entry.get("value", "")), found)
        else:
            value = _referred(entry["valueFrom"], identity, render, container)
            if value is not None:
                found[entry["name"]] = value
    return found


def expanded(text: str, known: Mapping[str, str]) -> str:
    """``$(NAME)`` replaced where NAME is known, ``$$`` by ``$``: as in ``env``, ``command`` and ``args``."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else known.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


def contents(document: Document) -> dict[str, bytes]:
    """Every key of a ConfigMap or Secret."""
    if document["kind"] == "Secret":
        plain = {key: text.encode() for key, text in (document.get("stringData") or {}).items()}
        return {key: base64.b64decode(text) for key, text in (document.get("data") or {}).items()} | plain
    binary = {key: base64.b64decode(text) for key, text in (document.get("binaryData") or {}).items()}
    return {key: text.encode() for key, text in (document.get("data") or {}).items()} | binary


def _all_of(source: Mapping[str, Any], render: Render) -> dict[str, str]:
    kind, reference = ("ConfigMap", "configMapRef") if "configMapRef" in source else ("Secret", "secretRef")
    named = source[reference]
    document = render.find(kind, named["name"], is_optional=bool(named.get("optional")))
    found = {} if document is None else contents(document)
    return {source.get("prefix", "") + key: value.decode() for key, value in found.items()}


def _referred(source: Mapping[str, Any], identity: Identity, render: Render, container: Document) -> str | None:
    if "fieldRef" in source:
        return identity.field(source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return _resource(container, source["resourceFieldRef"])
    kind, reference = (
        ("ConfigMap", "configMapKeyRef") if "configMapKeyRef" in source else ("Secret", "secretKeyRef")
    )
    if reference not in source:
        raise RehearsalError(f"container {container['name']}: valueFrom {', '.join(source)} is not supported")
    wanted = source[reference]
    document = render.find(kind, wanted["name"], is_optional=bool(wanted.get("optional")))
    value = None if document is None else contents(document).get(wanted["key"])
    if value is None and not wanted.get("optional"):
        raise RehearsalError(f"container {container['name']}: {kind} {wanted['name']} has no key {wanted['key']}")
    return None if value is None else value.decode()


def _resource(container: Document, reference: Mapping[str, str]) -> str:
    """Whole units: cores rounded up, bytes."""
    group, _, name = reference["resource"].partition(".")
    quantity = str(container.get("resources", {}).get(group, {}).get(name, "1"))
    return str(-(-int(quantity[:-1]) // 1000) if quantity.endswith("m") else int(amount(quantity)))


def amount(quantity: str) -> float:
    """Bytes (or cores) of a Kubernetes quantity, ``64Mi`` or ``1.5G``. Raises RehearsalError."""
    match = re.fullmatch(r"([0-9.]+)(m|[kKMGT]i?|)", quantity)
    if match is None:
        raise RehearsalError(f"{quantity!r} is no quantity")
    unit = match[2]
    if unit == "m":
        return float(match[1]) / 1000
    power = "kMGT".find(unit[:1].replace("K", "k")) + 1 if unit else 0
    factor = 1024.0 if unit.endswith("i") else 1000.0
    return float(match[1]) * float(factor**power)
