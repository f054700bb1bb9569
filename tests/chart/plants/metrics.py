"""Metrics that nobody exposes."""

from __future__ import annotations

from tests.chart.plants.spoiling import Plant, Plants, document
from tests.chart.policies import metrics as policies
from tests.chart.renders import Document, Render


def queried(query: str) -> Plant:
    """By the first trigger of its kind."""

    def plant(render: Render) -> None:
        triggers = document(render, "ScaledObject")["spec"]["triggers"]
        next(trigger for trigger in triggers if trigger["type"] == "prometheus")["metadata"]["query"] = query

    return plant


def alerted(render: Render) -> None:
    document(render, "PrometheusRule")["spec"]["groups"][0]["rules"][0]["expr"] = "adaserve_nothing_total > 0"


def rewritten(before: str, after: str) -> Plant:
    """In the rules for the adapter."""

    def plant(render: Render) -> None:
        data = _adapter(render)["data"]
        data["config.yaml"] = data["config.yaml"].replace(before, after)

    return plant


def _adapter(render: Render) -> Document:
    for config in render.of_kind("ConfigMap"):
        if "externalRules" in (config.get("data") or {}).get("config.yaml", ""):
            return config
    raise LookupError(f"{render.name}: no rules for the adapter")


PLANTS: Plants = [
    (policies.asks_for_what_is_exposed, queried("sum(adaserve_opened_streams)")),
    (policies.asks_for_what_is_exposed, queried('sum(adaserve_hop_time_seconds_sum{hop="far",namespace="n"})')),
    (policies.asks_for_what_is_exposed, alerted),
    (policies.asks_for_what_is_exposed, rewritten("adaserve_open_streams{", "adaserve_opened{")),
    (policies.asks_for_something_of_ours, queried("vector(1)")),
    (policies.asks_the_adapter_for_what_it_makes, rewritten("as: adaserve_scaling", "as: other")),
]
