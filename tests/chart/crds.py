"""The schemas of custom resources, as their own definitions have them, made strict.

The definitions are the projects' and are not ours to ship: ADASERVE_CRDS names a folder of them, one file for each
(`keda.sh_scaledobjects.yaml`, …). An API server prunes what a definition does not know; here it is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from tests.chart.renders import LOADER, Document, where

FOLDER = Path(os.environ["ADASERVE_CRDS"]) if os.environ.get("ADASERVE_CRDS") else None
SCALERS = "keda-scalers-schema.json"  # of KEDA's release: what each trigger's metadata may hold


def strict(schema: Document) -> Document:
    """The same schema where unknown fields are errors, unless it says that it keeps them."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-embedded-resource"):
        return {}
    made = dict(schema)
    if "properties" in schema:
        made["properties"] = {name: strict(inner) for name, inner in schema["properties"].items()}
        made.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = strict(made[key])
    return made


@cache
def _validators(folder: Path) -> dict[tuple[str, str], Any]:
    """By apiVersion and kind."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        for definition in yaml.load_all(path.read_text(encoding="utf-8"), Loader=LOADER):
            spec = definition["spec"]
            for version in spec["versions"]:
                if version["served"]:
                    schema = strict(version["schema"]["openAPIV3Schema"])
                    schema["properties"] |= {"metadata": {"type": "object"}}
                    key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                    found[key] = jsonschema_rs.Draft202012Validator(schema)
    return found


def is_known(document: Document, folder: Path) -> bool:
    return (document["apiVersion"], document["kind"]) in _validators(folder)


def complaints(document: Document, folder: Path) -> Iterator[str]:
    """What the definition of the document's kind has against it; the kind must be known."""
    for error in _validators(folder)[document["apiVersion"], document["kind"]].iter_errors(document):
        place = ".".join(str(part) for part in error.instance_path)
        yield f"{where(document)}: {place}: {error.message}"


@cache
def _scalers(folder: Path) -> dict[str, Document]:
    told = json.loads((folder / SCALERS).read_text(encoding="utf-8"))
    return {scaler["type"]: scaler for scaler in told["scalers"]}


def trigger_complaints(scaled: Document, folder: Path) -> Iterator[str]:
    """Each trigger of a ScaledObject is a scaler of KEDA's, with all the metadata that it needs and no other."""
    for trigger in scaled["spec"]["triggers"]:
        scaler = _scalers(folder).get(trigger["type"])
        if scaler is None:
            yield f"{where(scaled)}: KEDA has no scaler {trigger['type']}"
            continue
        known, needed = _parameters(scaler)
        given = (trigger.get("metadata") or {}).keys()
        yield from (f"{where(scaled)}: {trigger['type']} knows no {name}" for name in sorted(given - known))
        yield from (f"{where(scaled)}: {trigger['type']} needs {name}" for name in sorted(needed - given))


def _parameters(scaler: Document) -> tuple[set[str], set[str]]:
    """Names that a trigger's metadata may hold, and those that it must: not what may come from elsewhere."""
    known, needed = {"authModes"}, set()
    for parameter in scaler["parameters"]:
        if not parameter.get("metadataVariableReadable") or parameter.get("deprecated"):
            continue
        name, environment = parameter["name"], parameter.get("envVariableReadable")
        known |= {name, f"{name}FromEnv"} if environment else {name}
        elsewhere = environment or parameter.get("triggerAuthenticationVariableReadable")
        if not (elsewhere or parameter.get("optional") or "default" in parameter):
            needed.add(name)
    return known, needed
