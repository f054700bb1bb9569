"""A period of the services' life, as a Prometheus server that scrapes them remembers it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

from bench.proof.coverage import LEAST_SHARE, Coverage
from bench.proof.period import ClassCounts, Period
from bench.proof.when import clock
from bench.replay.recording import ServerSample
from bench.replay.series import SERIES, Series
from shared import signals
from shared.errors import AdaServeError

TIMEOUT_S = 30.0
STEPS = 240  # points of a plot over time
LEAST_STEP_S = 60.0  # several scrapes
COVERAGE_POINTS = 10_000  # Prometheus gives no more than 11,000
LEAST_COVERAGE_STEP_S = 5.0


class NoHistory(AdaServeError):
    """The Prometheus server is not there, refuses, or knows nothing of the period."""


class Prometheus:
    """Its HTTP API, read only. ``told`` hears of every question that was answered."""

    def __init__(self, url: str, told: Callable[[], None] = lambda: None) -> None:
        self._client = httpx.Client(base_url=url.rstrip("/"), timeout=TIMEOUT_S, trust_env=False)
        self._url = url
        self._told = told

    def period(self, start: float, end: float) -> Period:
        """Raises NoHistory, also where it has next to no samples of it or no request with a target finished."""
        seconds = max(1, round(end - start))
        covered = self._covered(start, end)
        classes = self._classes(seconds, end)
        if not classes:
            raise NoHistory(
                f"{self._url} knows of no requests with a target from {clock(start)} to {clock(end)} UTC; "
                "does it scrape the gateway?"
            )
        counted = {
            name: value
            for name, series in SERIES.items()
            if not series.is_gauge
            and (value := self._number(f"sum(increase({series.selector}[{seconds}s]))", end)) is not None
        }
        samples = list(self._samples(start, end))
        return Period(start=start, end=end, classes=classes, counted=counted, samples=samples, covered=covered)

    def _covered(self, start: float, end: float) -> Coverage:
        step = max(LEAST_COVERAGE_STEP_S, math.ceil((end - start) / COVERAGE_POINTS))
        points = [at for at, _ in self._range(f"count({signals.INFO.name})", start, end, step)]
        found = Coverage.of(points, step, start, end)
        if found.share < LEAST_SHARE:
            since = f"; give a period from {clock(found.first)} UTC on" if points else ""
            raise NoHistory(
                f"{self._url} has samples of AdaServe for {found.words} from {clock(start)} to {clock(end)} UTC: "
                f"too few to report on{since}"
            )
        return found

    def _classes(self, seconds: int, end: float) -> dict[str, ClassCounts]:
        name = f"{signals.SLO_REQUESTS.name}_total"
        found: dict[str, ClassCounts] = {}
        for labels, value in self._vector(f"sum by (slo_class, met) (increase({name}[{seconds}s]))", end):
            met = labels.get("met") == "true"
            one = ClassCounts(met=value) if met else ClassCounts(missed=value)
            found[labels["slo_class"]] = found.get(labels["slo_class"], ClassCounts()) + one
        tokens = self._by_class(
            f"sum by (slo_class) (increase({signals.GOODPUT_TOKENS.name}_total[{seconds}s]))", end
        )
        objectives = self._by_class(f"max by (slo_class) ({signals.SLO_OBJECTIVE.name})", end)
        return {
            name: ClassCounts(one.met, one.missed, tokens.get(name, 0.0), objectives.get(name))
            for name, one in found.items()
        }

    def _by_class(self, query: str, at: float) -> dict[str, float]:
        return {labels["slo_class"]: value for labels, value in self._vector(query, at)}

    def _samples(self, start: float, end: float) -> Iterator[ServerSample]:
        """What was counted since the start, and the gauges, at regular times."""
        step = max(LEAST_STEP_S, math.ceil((end - start) / STEPS))
        points: dict[float, dict[str, float]] = {}
        for name, series in SERIES.items():
            counted = 0.0
            for at, value in self._range(_over_time(series, step), start, end, step):
                counted = value if series.is_gauge else counted + value
                points.setdefault(at, {})[name] = counted
        for at in sorted(points):
            yield ServerSample(at_s=at - start, values=points[at])

    def _range(self, query: str, start: float, end: float, step: float) -> list[tuple[float, float]]:
        found = self._ask("query_range", query=query, start=str(start), end=str(end), step=str(step))
        return [_sample(point) for one in found[:1] for point in one["values"] if _is_number(point)]

    def _vector(self, query: str, at: float) -> list[tuple[Mapping[str, str], float]]:
        found = self._ask("query", query=query, time=str(at))
        return [(one["metric"], float(one["value"][1])) for one in found if _is_number(one["value"])]

    def _number(self, query: str, at: float) -> float | None:
        return next((value for _, value in self._vector(query, at)), None)

    def _ask(self, what: str, **params: str) -> list[Any]:
        try:
            response = self._client.get(f"/api/v1/{what}", params=params)
            answer = response.json()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoHistory(f"no Prometheus at {self._url}: {error}") from None
        except ValueError:
            raise NoHistory(_refusal(self._url, None, response.status_code)) from None
        if not isinstance(answer, dict) or answer.get("status") != "success":
            raise NoHistory(_refusal(self._url, answer, response.status_code))
        self._told()
        return list(answer["data"]["result"])


QUESTIONS = 4 + sum(1 if series.is_gauge else 2 for series in SERIES.values())  # of a period


def _refusal(url: str, answer: Any, status: int) -> str:
    """Prometheus says in a string what it refuses; anything else is another server."""
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        return f"{url}: {answer['error'][:300]}"
    return f"{url} does not answer as Prometheus does ({status}); is it the address of another service?"


def _over_time(series: Series, step: float) -> str:
    if series.is_gauge:
        return f"avg({series.selector})"
    return f"sum(increase({series.selector}[{step:g}s]))"


def _sample(point: tuple[float, str]) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _is_number(point: tuple[float, str]) -> bool:
    return math.isfinite(float(point[1]))
