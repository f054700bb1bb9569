"""What `adaserve doctor` sees of Prometheus: whether it has what autoscaling asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import httpx

from cli.diagnosis.snapshot import Metrics

TIMEOUT_S = 5.0
REFUSED = 'sum(increase(adaserve_bus_errors_total{kind="NOPERM"}[10m]))'


def trigger_metrics() -> Mapping[str, Sequence[str]]:
    """Service -> metrics that its triggers name in the chart's values (`python -m deploy.doctor_metrics`)."""
    told: Mapping[str, Sequence[str]] = json.loads(
        files("cli.diagnosis").joinpath("trigger_metrics.json").read_text(encoding="utf-8")
    )
    return told


def examined_metrics(url: str, cell: str) -> tuple[Metrics | None, str]:
    """What there is now; else why it could not be asked."""
    needed = trigger_metrics()
    names = sorted({name for group in needed.values() for name in group})
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
            series = {name: (_count(client, f'{name}{{cell="{cell}"}}'), _count(client, name)) for name in names}
            return Metrics(needed=needed, series=series, refused=_sum(_ask(client, REFUSED))), ""
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        return None, f"{url}: {' '.join(str(error).split()) or type(error).__name__}"


def _count(client: httpx.Client, selector: str) -> int:
    return int(_sum(_ask(client, f"count({selector})")))


def _ask(client: httpx.Client, query: str) -> Sequence[Mapping[str, Any]]:
    answer = client.get("/api/v1/query", params={"query": query}).raise_for_status().json()
    if answer["status"] != "success":
        raise ValueError(f"{query}: {answer.get('error')}")
    found: Sequence[Mapping[str, Any]] = answer["data"]["result"]
    return found


def _sum(vector: Sequence[Mapping[str, Any]]) -> float:
    return sum(float(one["value"][1]) for one in vector)
