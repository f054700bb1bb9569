"""`python -m deploy.doctor_metrics`: the metrics that autoscaling needs, as `adaserve doctor` looks for them.

They are read off the queries of the chart's values. The command line is installed without the chart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
VALUES = HERE / "k8s" / "values.yaml"
PLACE = HERE.parent / "cli" / "diagnosis" / "trigger_metrics.json"
NAME = re.compile(r"\badaserve[_:][a-z0-9_:]+")


def metrics_of(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Service -> names in the queries of its triggers, in order."""
    queries = {
        service: [str(trigger.get("query", "")) for trigger in about["autoscaling"]["triggers"].values()]
        for service, about in values["services"].items()
        if about.get("autoscaling", {}).get("triggers")
    }
    return {
        service: sorted({name for query in told for name in NAME.findall(query)})
        for service, told in queries.items()
    }


def table() -> str:
    """The file's text."""
    return json.dumps(metrics_of(yaml.safe_load(VALUES.read_text(encoding="utf-8"))), indent=1) + "\n"


if __name__ == "__main__":
    PLACE.write_text(table(), encoding="utf-8")
