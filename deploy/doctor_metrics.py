"""`python -m deploy.doctor_metrics`: the series that autoscaling needs, as `adaserve doctor` looks for them.

They are read off the queries of the chart's values. The command line is installed without the chart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
VALUES = HERE / "k8s" / "values.yaml"
PLACE = HERE.parent / "cli" / "diagnosis" / "trigger_metrics.json"
SELECTOR = re.compile(r"\b(adaserve[_:][a-z0-9_:]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'\w+\s*(?:=~|!~|!=|=)\s*"[^"]*"')


def series_of(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Service -> selectors in the queries of its triggers, in order, with the matchers that are their own.

    Those that the chart puts in besides (`metrics.matchLabels`) differ from release to release.
    """
    queries = {
        service: [str(trigger.get("query", "")) for trigger in about["autoscaling"]["triggers"].values()]
        for service, about in values["services"].items()
        if about.get("autoscaling", {}).get("triggers")
    }
    return {
        service: sorted({selector for query in told for selector in _selectors(query)})
        for service, told in queries.items()
    }


def _selectors(query: str) -> Iterator[str]:
    for name, matchers in SELECTOR.findall(query):
        own = ",".join(MATCHER.findall(matchers))
        yield f"{name}{{{own}}}" if own else name


def table() -> str:
    """The file's text."""
    return json.dumps(series_of(yaml.safe_load(VALUES.read_text(encoding="utf-8"))), indent=1) + "\n"


if __name__ == "__main__":
    PLACE.write_text(table(), encoding="utf-8")
