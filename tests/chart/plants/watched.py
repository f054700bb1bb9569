"""Autoscalers and monitors of nothing, or two of them."""

from __future__ import annotations

from tests.chart.plants.spoiling import Plants, beside, document
from tests.chart.policies import watched as policies
from tests.chart.renders import Document, Render


def scaler(render: Render) -> Document:
    for found in render.of_kind(*policies.SCALERS):
        return found
    raise LookupError("nothing is scaled")


def of_nothing(render: Render) -> None:
    scaler(render)["spec"]["scaleTargetRef"]["name"] = "nobody"


def two_of_one(render: Render) -> None:
    found = scaler(render)
    beside(render, found["kind"], found["metadata"]["name"], name="another")


def unauthenticated(render: Render) -> None:
    document(render, "ScaledObject")["spec"]["triggers"][0]["authenticationRef"] = {"name": "nobody"}


def looks_at_nothing(render: Render) -> None:
    document(render, "ServiceMonitor")["spec"]["selector"] = {"matchLabels": {"app": "nobody"}}


def asks_no_port(render: Render) -> None:
    document(render, "ServiceMonitor")["spec"]["endpoints"][0]["port"] = "htp"


PLANTS: Plants = [
    (policies.scales_what_there_is, of_nothing),
    (policies.scales_what_there_is, unauthenticated),
    (policies.is_scaled_once, two_of_one),
    (policies.monitors_what_there_is, looks_at_nothing),
    (policies.monitors_what_there_is, asks_no_port),
    (policies.scrapes_each_once, lambda r: beside(r, "ServiceMonitor", name="another")),
    (policies.scrapes_each_once, looks_at_nothing),
]
