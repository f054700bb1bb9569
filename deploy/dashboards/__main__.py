"""Write every dashboard: `python -m deploy.dashboards`."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.dashboards.grafana import Dashboard
from deploy.dashboards.overview import OVERVIEW
from deploy.dashboards.promises import PROMISES
from deploy.dashboards.queues import QUEUES
from deploy.dashboards.speculation import SPECULATION

FOLDER = Path(__file__).resolve().parent.parent / "k8s" / "files" / "dashboards"
DASHBOARDS = (OVERVIEW, PROMISES, SPECULATION, QUEUES)


def content(dashboard: Dashboard) -> str:
    """What its file holds."""
    return json.dumps(dashboard.json(), indent=2, ensure_ascii=False) + "\n"


def path(dashboard: Dashboard) -> Path:
    """Where its file lies."""
    return FOLDER / f"{dashboard.uid}.json"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for one in DASHBOARDS:
        path(one).write_text(content(one), encoding="utf-8")
