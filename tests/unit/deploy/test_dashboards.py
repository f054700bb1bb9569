"""The dashboards: their files are written anew, and their expressions ask for what there is."""

from __future__ import annotations

import json
from itertools import combinations, pairwise
from typing import Any

import pytest

from deploy.dashboards.__main__ import DASHBOARDS, FOLDER, content, path
from deploy.dashboards.grafana import FULL, Dashboard, Panel
from tests.unit.deploy.promql import complaints, labels_of_records

PANELS = [panel for dashboard in DASHBOARDS for panel in dashboard.panels]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_a_file_is_what_its_description_makes(dashboard: Dashboard) -> None:
    assert path(dashboard).read_text(encoding="utf-8") == content(dashboard), "python -m deploy.dashboards"


def test_no_other_files_lie_there() -> None:
    assert sorted(FOLDER.iterdir()) == sorted(path(dashboard) for dashboard in DASHBOARDS)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_a_panel_asks_for_what_there_is_and_says_why(panel: Panel) -> None:
    for query in panel.queries:
        assert complaints(query.expr, labels_of_records()) == []
    assert panel.description.endswith(".")
    assert [at for at, _ in panel.steps] == sorted(at for at, _ in panel.steps)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_panels_lie_side_by_side_and_have_names_of_their_own(dashboard: Dashboard) -> None:
    panels = json.loads(content(dashboard))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    titles = [panel["title"] for panel in panels if panel["type"] != "row"]
    assert len(set(titles)) == len(titles)
    assert not [pair for pair in combinations(panels, 2) if overlap(*(panel["gridPos"] for panel in pair))]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= FULL for panel in panels)
    assert all(above["gridPos"]["y"] <= below["gridPos"]["y"] for above, below in pairwise(panels))


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    apart = (one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
             or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"])  # fmt: skip
    return not apart


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_grafana_finds_what_it_needs(dashboard: Dashboard) -> None:
    told = json.loads(content(dashboard))
    assert told["schemaVersion"] >= 39
    names = {variable["name"] for variable in told["templating"]["list"]}
    assert {"datasource", "cell"} <= names
    for panel in told["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None
    used = {name for name in ("cell", "slo_class") if f"${name}" in json.dumps(told["panels"])}
    assert used <= names
