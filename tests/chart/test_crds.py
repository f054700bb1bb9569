"""Custom resources of the renders against their own definitions, from the folder that ADASERVE_CRDS names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chart.crds import FOLDER, SCALERS, complaints, is_known, strict, trigger_complaints
from tests.chart.renders import Document, Render, renders
from tests.chart.strict import is_custom

CUSTOM = [(render, document) for render in renders() for document in render.documents if is_custom(document)]
KINDS = {"ScaledObject", "ServiceMonitor", "PodMonitor", "PrometheusRule", "HTTPRoute"}


@pytest.fixture
def folder() -> Path:
    if FOLDER is None:
        pytest.skip("ADASERVE_CRDS names no folder of CustomResourceDefinitions")
    assert FOLDER.is_dir(), f"ADASERVE_CRDS={FOLDER}: no folder"
    return FOLDER


def _name(value: object) -> str:
    if isinstance(value, Render):
        return value.name
    return f"{value['kind']}-{value['metadata']['name']}" if isinstance(value, dict) else str(value)


def test_the_renders_have_each_kind_at_least_once() -> None:
    assert {document["kind"] for _, document in CUSTOM} >= KINDS


@pytest.mark.parametrize(("render", "document"), CUSTOM, ids=_name)
def test_a_custom_resource_is_as_its_definition_says(render: Render, document: Document, folder: Path) -> None:
    if not is_known(document, folder):
        pytest.skip(f"no definition of {document['kind']} in {folder}")
    assert list(complaints(document, folder)) == []


@pytest.mark.parametrize(("render", "document"), CUSTOM, ids=_name)
def test_a_trigger_is_as_its_scaler_says(render: Render, document: Document, folder: Path) -> None:
    if document["kind"] != "ScaledObject":
        return
    if not (folder / SCALERS).is_file():
        pytest.skip(f"no {SCALERS} in {folder}")
    assert list(trigger_complaints(document, folder)) == []


def scaled(**metadata: str) -> Document:
    trigger = {"type": "prometheus", "metadata": {"serverAddress": "http://p", "query": "x", "threshold": "1"}}
    trigger["metadata"] |= metadata
    spec = {"scaleTargetRef": {"name": "adaserve-gateway"}, "triggers": [trigger]}
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "x"}, "spec": spec}


def test_what_is_wrong_is_noticed(folder: Path) -> None:
    assert list(complaints(scaled(), folder)) == []
    odd = scaled()
    odd["spec"]["minReplicas"] = 1
    del odd["spec"]["scaleTargetRef"]["name"]
    assert len(list(complaints(odd, folder))) == 2


def test_a_wrong_trigger_is_noticed(folder: Path) -> None:
    assert list(trigger_complaints(scaled(), folder)) == []
    odd = scaled(treshold="2")
    del odd["spec"]["triggers"][0]["metadata"]["threshold"]
    said = list(trigger_complaints(odd, folder))
    assert said == ["ScaledObject/x: prometheus knows no treshold", "ScaledObject/x: prometheus needs threshold"]
    odd["spec"]["triggers"][0]["type"] = "prometeus"
    assert list(trigger_complaints(odd, folder)) == ["ScaledObject/x: KEDA has no scaler prometeus"]


def test_a_definition_is_made_strict_all_the_way_down() -> None:
    inner = {"type": "object", "properties": {"known": {"type": "string"}}}
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {}}
    labels = {"type": "object", "additionalProperties": {"type": "string"}}
    made = strict({"properties": {"list": {"items": inner}, "free": free, "labels": labels}})
    assert made["additionalProperties"] is False
    assert made["properties"]["list"]["items"]["additionalProperties"] is False
    assert made["properties"]["free"] == {}
    assert made["properties"]["labels"] == labels
