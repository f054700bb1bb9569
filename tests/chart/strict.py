"""Kubernetes' own schemas, strict ones: a field that a version does not know is an error there.

They are the data of the package kubernetes-validate. Its own function reads 30 MB for every document; here each
schema is compiled once, and a document that is in several renders is looked at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate

from tests.chart.renders import Document, where

OLDEST = (1, 27)
SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


@cache
def versions() -> tuple[str, ...]:
    """From OLDEST to the newest that the package knows, as `1.27`."""
    names = {path.name.split("-")[0].removeprefix("v") for path in SCHEMAS.glob("v*-local-strict")}
    known = sorted(tuple(int(part) for part in name.split(".")[:2]) for name in names)
    return tuple(f"{major}.{minor}" for major, minor in known if (major, minor) >= OLDEST)


def is_custom(document: Document) -> bool:
    """Whether its kind is of an extension; Kubernetes' own groups have no dot, or end in `.k8s.io`."""
    group = document["apiVersion"].rpartition("/")[0]
    return "." in group and (not group.endswith(".k8s.io") or group.startswith("gateway."))


def complaints(document: Document, version: str) -> Iterator[str]:
    """What `version` has against it."""
    validator = _validator(document["kind"].lower(), document["apiVersion"], version)
    if validator is None:
        yield f"{where(document)}: Kubernetes {version} has no {document['apiVersion']} {document['kind']}"
        return
    for error in validator.iter_errors(document):
        place = ".".join(str(part) for part in error.instance_path)
        yield f"{where(document)}: Kubernetes {version}: {place}: {error.message}"


@cache
def _validator(kind: str, api_version: str, version: str) -> Any:
    group, _, name = api_version.rpartition("/")
    stem = "-".join(part for part in (kind, group.partition(".")[0], name) if part)
    path = SCHEMAS / f"v{version}.0-local-strict" / f"{stem}.json"
    if not path.is_file():
        return None
    return jsonschema_rs.Draft202012Validator(json.loads(path.read_bytes()), registry=_registry(version))


@cache
def _registry(version: str) -> Any:
    definitions = json.loads((SCHEMAS / f"v{version}.0-local-strict" / "_definitions.json").read_bytes())
    return jsonschema_rs.Registry([("_definitions.json", definitions)])
