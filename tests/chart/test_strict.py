"""Every document of every render, strictly, for every version of Kubernetes that the chart is for."""

from __future__ import annotations

import copy
from collections.abc import Callable

import kubernetes_validate
import pytest

from tests.chart.renders import CHART, Document, Render, renders
from tests.chart.strict import OLDEST, complaints, is_custom, versions


def plain(render: Render) -> list[Document]:
    return [document for document in render.documents if not is_custom(document)]


def deployment() -> Document:
    return copy.deepcopy(next(d for d in renders()[0].documents if d["kind"] == "Deployment"))


def test_the_versions_begin_where_the_chart_does_and_leave_none_out() -> None:
    minors = [int(version.partition(".")[2]) for version in versions()]
    assert minors == list(range(OLDEST[1], minors[-1] + 1))
    assert versions()[-1] == ".".join(kubernetes_validate.latest_version().split(".")[:2])


@pytest.mark.parametrize("version", versions())
@pytest.mark.parametrize("render", renders(), ids=lambda render: render.name)
def test_a_render_is_valid(render: Render, version: str) -> None:
    assert [said for document in plain(render) for said in complaints(document, version)] == []


@pytest.mark.parametrize("version", [versions()[0], versions()[-1]])
def test_kubernetes_validate_itself_agrees(version: str) -> None:
    """The package's own function, on a document of each kind."""
    kinds = {document["kind"]: document for render in renders() for document in plain(render)}
    assert len(kinds) > 5
    for document in kinds.values():
        assert kubernetes_validate.validate(document, version, strict=True) == version


def misspelled(document: Document) -> None:
    document["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}


def mistyped(document: Document) -> None:
    document["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "http"


def without_selector(document: Document) -> None:
    del document["spec"]["selector"]


def out_of_date(document: Document) -> None:
    document["apiVersion"] = "extensions/v1beta1"


@pytest.mark.parametrize("spoil", [misspelled, mistyped, without_selector, out_of_date])
@pytest.mark.parametrize("version", [versions()[0], versions()[-1]])
def test_what_is_wrong_is_noticed(spoil: Callable[[Document], None], version: str) -> None:
    document = deployment()
    spoil(document)
    assert list(complaints(document, version))


def test_what_only_newer_versions_know_is_noticed() -> None:
    document = deployment()
    container = document["spec"]["template"]["spec"]["containers"][0]
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": 5}}}
    said = {version: list(complaints(document, version)) for version in (versions()[0], versions()[-1])}
    assert said[versions()[0]]
    assert said[versions()[-1]] == []


def test_the_chart_names_the_same_oldest_version() -> None:
    assert f'kubeVersion: ">={OLDEST[0]}.{OLDEST[1]}.' in (CHART / "Chart.yaml").read_text(encoding="utf-8")
