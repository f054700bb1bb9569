"""Telemetry of simulated members: there is none."""

from __future__ import annotations

from typing import Any

from opentelemetry.metrics import NoOpMeterProvider
from prometheus_client import CollectorRegistry

from shared.signals import Metric
from shared.telemetry import Telemetry


class Silence(Telemetry):
    """Counts nothing: a tenth of a run would be spent on it."""

    def __init__(self) -> None:
        super().__init__(None, NoOpMeterProvider(), CollectorRegistry())

    def _instrument(self, metric: Metric) -> Any:
        return _SILENT


class _Silent:
    """An instrument of any kind."""

    def add(self, *_: object) -> None: ...

    set = record = add


_SILENT = _Silent()
