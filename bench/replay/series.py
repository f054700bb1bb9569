"""The services' figures that a report follows over time, one table for their /metrics and for Prometheus. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bench.replay.counters import Samples
from shared import signals
from shared.signals import ARMS, MODE_SWITCHES, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Samples called ``name`` that carry ``labels``: of a counter their sum, of a gauge their mean."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    is_gauge: bool = False

    def of(self, samples: Samples) -> float | None:
        """Of one service; None where it has none such."""
        wanted = set(self.labels.items())
        found = [value for (name, carried), value in samples.items() if name == self.name and wanted <= carried]
        if not found:
            return None
        return sum(found) / (len(found) if self.is_gauge else 1)

    @property
    def selector(self) -> str:
        """In PromQL."""
        labels = ",".join(f'{name}="{value}"' for name, value in self.labels.items())
        return f"{self.name}{{{labels}}}"


def _counter(metric: Metric, **labels: str) -> Series:
    return Series(name=f"{metric.name}_total", labels=labels)


def _seconds(part: str) -> Series:
    return Series(name=f"{signals.STEP_TIME.name}_seconds_sum", labels={"part": part})


def _gauge(metric: Metric, **labels: str) -> Series:
    return Series(name=metric.name, labels=labels, is_gauge=True)


SWITCH = "switch_"  # before the reason
FINISHED = "finished_"  # likewise, of those that have all their tokens
SERIES: Mapping[str, Series] = {
    "target_s": _seconds("total"),  # of the verifier: forward passes and what belongs to them
    "draft_s": _seconds("draft"),
    "select_s": _seconds("select"),
    "steps_speculative": _counter(signals.STEPS, kind="speculative"),
    "steps_bare": _counter(signals.STEPS, kind="bare"),
    "steps_prefill": _counter(signals.STEPS, kind="prefill"),
    "committed": _counter(signals.TOKENS_COMMITTED),
    **{f"{FINISHED}{reason}": _counter(signals.REQUESTS_FINISHED, reason=reason) for reason in ("stop", "length")},
    "selected": _counter(signals.DRAFT_TOKENS_SELECTED),
    "accepted": _counter(signals.DRAFT_TOKENS_ACCEPTED),
    "expected": _counter(signals.ACCEPTED_EXPECTED, kind="calibrated"),
    "realised": _counter(signals.ACCEPTED_REALISED),
    **{f"{SWITCH}{reason}": _counter(MODE_SWITCHES, reason=reason) for reason in MODE_SWITCHES.labels["reason"]},
    **{
        f"{arm}_{word}": _counter(signals.ROLLOUT_FINISHED, arm=arm, met=met)
        for arm in ARMS
        for word, met in (("met", "true"), ("missed", "false"))
    },
    "speculative": _gauge(signals.MODE_SPECULATIVE),
    "calibration_error": _gauge(signals.CALIBRATION_ERROR, kind="calibrated"),
    "running": _gauge(signals.REQUESTS, state="running"),
    "waiting": _gauge(signals.REQUESTS, state="waiting"),
}


class Readings:
    """What several services have counted since the first reading, and what their gauges say now.

    A counter that fell was that of a service that has started anew: all of it counts. So it does of a counter
    that appears in a service that was read before: it had not counted anything.
    """

    def __init__(self) -> None:
        self._read: set[str] = set()
        self._last: dict[tuple[str, str], float] = {}
        self._counted: dict[str, float] = {}

    def take(self, services: Mapping[str, Samples]) -> dict[str, float]:
        """The next reading, of those services that answered, by the names of `SERIES`."""
        gauges: dict[str, list[float]] = {}
        for service, samples in services.items():
            for name, series in SERIES.items():
                value = series.of(samples)
                if value is None:
                    continue
                if series.is_gauge:
                    gauges.setdefault(name, []).append(value)
                else:
                    self._add(service, name, value)
            self._read.add(service)
        return {**self._counted, **{name: mean(values) for name, values in gauges.items()}}

    def _add(self, service: str, name: str, value: float) -> None:
        before = self._last.get((service, name), 0.0 if service in self._read else value)
        self._last[service, name] = value
        grown = value - before if value >= before else value
        self._counted[name] = self._counted.get(name, 0.0) + grown


def mean(values: Iterable[float]) -> float:
    """Of at least one value."""
    known = list(values)
    return sum(known) / len(known)
