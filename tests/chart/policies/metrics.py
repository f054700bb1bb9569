"""What triggers, rules and the adapter's queries ask Prometheus for is what the services expose."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from tests.chart.renders import LOADER, Document, Render, where
from tests.unit.deploy.promql import asked, complaints, labels_of_records

_BY_KUBERNETES = re.compile(r',?\b(namespace|pod)(=|!=|=~)"[^"]*"|,?<<\.LabelMatchers>>')  # what scrapes add there


def _asked(render: Render) -> Iterator[tuple[str, str]]:
    """Whose, and the expression."""
    for scaled in render.of_kind("ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            if trigger["type"] == "prometheus":
                yield where(scaled), trigger["metadata"]["query"]
    for ruled in render.of_kind("PrometheusRule"):
        for group in ruled["spec"]["groups"]:
            yield from ((where(ruled), rule["expr"]) for rule in group["rules"])
    for config, rule in _adapter_rules(render):
        yield where(config), rule["metricsQuery"]


def _adapter_rules(render: Render) -> Iterator[tuple[Document, Document]]:
    """Of ConfigMaps for prometheus-adapter."""
    for config in render.of_kind("ConfigMap"):
        for text in (config.get("data") or {}).values():
            if text.startswith("externalRules:"):
                yield from ((config, rule) for rule in yaml.load(text, Loader=LOADER)["externalRules"])


def asks_for_what_is_exposed(render: Render) -> list[str]:
    """Every metric and label exists, and every value of a label that has listed ones."""
    records = labels_of_records()
    return [
        f"{owner}: {said}"
        for owner, expr in _asked(render)
        for said in complaints(_BY_KUBERNETES.sub("", expr), records)
    ]


def asks_for_something_of_ours(render: Render) -> list[str]:
    """A trigger that names none of our metrics scales on something else."""
    return [f"{owner}: {expr}" for owner, expr in _asked(render) if not list(asked(expr))]


def asks_the_adapter_for_what_it_makes(render: Render) -> list[str]:
    """External metrics of HorizontalPodAutoscalers are what the adapter's rules make, where there are any."""
    made = {rule["name"]["as"] for _, rule in _adapter_rules(render)}
    return [
        f"{where(scaler)}: no rule makes {metric['external']['metric']['name']}"
        for scaler in render.of_kind("HorizontalPodAutoscaler")
        for metric in scaler["spec"]["metrics"]
        if made and metric["type"] == "External" and metric["external"]["metric"]["name"] not in made
    ]


POLICIES = (asks_for_what_is_exposed, asks_for_something_of_ours, asks_the_adapter_for_what_it_makes)
