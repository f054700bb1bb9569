"""What `adaserve doctor` sees of Prometheus: whether it has what autoscaling asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import httpx

from cli.diagnosis.snapshot import Metrics
from shared.errors import AdaServeError

TIMEOUT_S = 5.0
API = "/api/v1/query"
WHO = "count by (service, namespace, cell) (adaserve_info)"
REFUSED = 'adaserve_bus_errors_total{kind="NOPERM"}'
NO_LOGIN = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


class NoPrometheus(AdaServeError):
    """Who answers there is none, or not to us; says what to do about it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def trigger_series() -> Mapping[str, Sequence[str]]:
    """Service -> selectors that its triggers have in the chart's values (`python -m deploy.doctor_metrics`)."""
    told: Mapping[str, Sequence[str]] = json.loads(
        files("cli.diagnosis").joinpath("trigger_metrics.json").read_text(encoding="utf-8")
    )
    return told


def examined_metrics(url: str, cell: str, namespace: str | None) -> tuple[Metrics | None, str, str]:
    """What there is now; else why it could not be asked, and what to do about that.

    ``namespace``: the label that triggers ask for; None where the cell's series say it, "" where they have none.
    """
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
            return _seen(client, cell, namespace), "", ""
    except NoPrometheus as error:
        return None, f"{url}: {error}", error.remedy
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return None, f"{url}: {reason}", "start it, or name the right --prometheus"


def _seen(client: httpx.Client, cell: str, namespace: str | None) -> Metrics:
    needed = trigger_series()
    targets = [one["metric"] for one in _ask(client, WHO)]
    namespaces = sorted({one["namespace"] for one in targets if one.get("cell") == cell and "namespace" in one})
    if namespace is None and len(namespaces) <= 1:
        namespace = "".join(namespaces) or None
    labels = {"cell": cell} | ({"namespace": namespace} if namespace else {})
    is_labelled = any("cell" in one for one in targets)
    selectors = sorted({selector for group in needed.values() for selector in group})
    return Metrics(
        needed=needed,
        labels=labels,
        namespace=namespace,
        namespaces=namespaces,
        targets=targets,
        series={selector: _count(client, narrowed(selector, labels)) for selector in selectors},
        refused=_sum(_ask(client, f"sum(increase({narrowed(REFUSED, labels if is_labelled else {})}[10m]))")),
    )


def narrowed(selector: str, labels: Mapping[str, str]) -> str:
    """The selector, with these labels besides its own, as the chart's templates write it."""
    name, _, own = selector.removesuffix("}").partition("{")
    matchers = [*([own] if own else []), *(f"{label}={json.dumps(value)}" for label, value in labels.items())]
    return f"{name}{{{','.join(matchers)}}}"


def _count(client: httpx.Client, selector: str) -> int:
    return int(_sum(_ask(client, f"count({selector})")))


def _ask(client: httpx.Client, query: str) -> Sequence[Mapping[str, Any]]:
    """Raises NoPrometheus for an answer that is none of Prometheus', and httpx.HTTPError where there is none."""
    answer = client.get(API, params={"query": query})
    if answer.status_code in NO_LOGIN:
        remedy = (
            "a --prometheus that asks for no login: `kubectl port-forward` to it, or its own URL behind the proxy"
        )
        raise NoPrometheus(f"{API} answers {answer.status_code}: it asks for a login", remedy)
    try:
        told = answer.json()
        if told["status"] == "success":
            found: Sequence[Mapping[str, Any]] = told["data"]["result"]
            return found
        reason = f"it does not answer {query}: {told['error']}"
    except (ValueError, KeyError, TypeError):
        reason = f"{API} answers {answer.status_code} and no result of a query, so this is no Prometheus"
    raise NoPrometheus(reason, "name the URL of a Prometheus with --prometheus, such as http://prometheus:9090")


def _sum(vector: Sequence[Mapping[str, Any]]) -> float:
    return sum(float(one["value"][1]) for one in vector)
