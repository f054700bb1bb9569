"""Dashboards as Grafana reads them (version 10 and later, schema 39), from what one would say of each panel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

SCHEMA = 39
FULL = 24  # columns of Grafana's grid
TAG = "adaserve"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
CELL = 'cell=~"$cell"'
CLASS = f'{CELL},slo_class=~"$slo_class"'


def rate(counter: str, by: str = "", where: str = "") -> str:
    """How fast a counter grows, summed up to the labels ``by``, of the series ``where``."""
    matchers = ",".join(filter(None, (CELL, where)))
    return f"sum by ({by}) (rate({counter}{{{matchers}}}[$__rate_interval]))"


def quantile(q: float, histogram: str, by: str = "") -> str:
    """Of what was observed lately, by labels."""
    buckets = rate(f"{histogram}_bucket", ", ".join(filter(None, (by, "le"))))
    return f"histogram_quantile({q}, {buckets})"


@dataclass(frozen=True, slots=True)
class Query:
    """An expression and what its series are called, by their labels."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What is shown, why one looks at it, and from where on it is bad.

    ``steps`` are values from which on the colour changes: green, or the first colour, before the first of them.
    """

    title: str
    description: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    steps: Sequence[tuple[float, str]] = ()
    first: str = "green"
    least: float | None = 0.0
    most: float | None = None
    stacked: bool = False
    names: dict[int, str] = field(default_factory=dict)  # of values, on a state timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """Rows of panels. ``variables`` beside the data source and the cell: name and the query of its values."""

    uid: str
    title: str
    description: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    variables: Sequence[tuple[str, str, str]] = ()

    @property
    def panels(self) -> Iterator[Panel]:
        return (panel for _, panels in self.rows for panel in panels)

    def json(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "links": [_others()],
            "annotations": {"list": [_alerts()]},
            "templating": {"list": [_source(), *(_variable(*one) for one in (CELLS, *self.variables))]},
            "panels": list(_placed(self.rows)),
        }


CELLS = ("cell", "Cell", "label_values(adaserve_info, cell)")
CLASSES = ("slo_class", "Class", "label_values(adaserve_slo_requests_total, slo_class)")


def _placed(rows: Sequence[tuple[str, Sequence[Panel]]]) -> Iterator[dict[str, Any]]:
    """Row after row, panels from left to right; a row's panels have one height."""
    ids, y = count(1), 0
    for title, panels in rows:
        place = {"x": 0, "y": y, "w": FULL, "h": 1}
        yield {"id": next(ids), "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place}
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > FULL:
                x, y = 0, y + panels[0].height
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield {"id": next(ids), "gridPos": place, **_panel(panel)}
            x += panel.width
        y += panels[0].height


def _panel(panel: Panel) -> dict[str, Any]:
    is_instant = panel.kind in ("stat", "bargauge")
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": is_instant,
                "range": not is_instant,
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": OPTIONS[panel.kind],
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = [{"value": None, "color": panel.first}, *({"value": at, "color": color} for at, color in panel.steps)]
    told: dict[str, Any] = {
        "unit": panel.unit,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    told |= {name: value for name, value in (("min", panel.least), ("max", panel.most)) if value is not None}
    if panel.names:
        named = {str(value): {"text": name, "index": value} for value, name in panel.names.items()}
        told["mappings"] = [{"type": "value", "options": named}]
    if panel.kind == "timeseries":
        told["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.steps else "off"},
        }
    return told


_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": _LAST, "colorMode": "value", "graphMode": "none", "textMode": "auto"},
    "bargauge": {"reduceOptions": _LAST, "orientation": "horizontal", "displayMode": "basic"},
    "state-timeline": {"showValue": "auto", "mergeValues": True, "rowHeight": 0.8, "tooltip": {"mode": "single"}},
}


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
        "hide": 0,
    }


def _others() -> dict[str, Any]:
    return {
        "title": "AdaServe",
        "type": "dashboards",
        "tags": [TAG],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"AdaServe.*",alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}} {{slo_class}}{{tier}}{{reason}}",
        "step": "60s",
    }
