"""A snapshot of a deployment for `adaserve doctor`: asks, and changes nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from cli.bus_examination import examined_redis
from cli.completion import error_code
from cli.diagnosis.snapshot import Snapshot
from cli.metrics_examination import examined_metrics
from cli.settings import presented, unread
from shared.settings import PREFIX
from shared.topics import Keys

TIMEOUT_S = 5.0
OPEN_PATHS = ("/live", "/ready")
KEYED_PATHS = ("/v1/models",)
ADMIN_PATHS = ("/admin/mode", "/admin/slo", "/admin/live")
OTLP = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
OTLP_PORT = 4318


def examined(
    url: str,
    *,
    api_key: str | None,
    tenant: str | None,
    admin_key: str | None,
    redis_url: str | None,
    prometheus: str | None,
    cell: str,
    namespace: str | None,
    environment: Mapping[str, str],
) -> Snapshot:
    """Takes about a second. Raises ConfigurationError for what is no cell, no URL of Redis or no key."""
    keys = Keys(cell)
    answered = _ask_gateway(url, api_key, tenant, admin_key)
    redis, redis_error, redis_remedy = (None, None, "") if redis_url is None else examined_redis(redis_url, keys)
    asked = (None, "", "") if prometheus is None else examined_metrics(prometheus, cell, namespace)
    metrics, metrics_error, metrics_remedy = asked
    endpoints = [environment[name] for name in OTLP if environment.get(name)][:1]
    return Snapshot(
        url=url,
        cell=cell,
        tenant=tenant,
        has_key=bool(api_key),
        redis=redis,
        redis_error=redis_error,
        redis_remedy=redis_remedy,
        is_redis_local=redis_url is None or is_local(redis_url),
        metrics=metrics,
        metrics_error=metrics_error,
        metrics_remedy=metrics_remedy,
        unknown_variables=unread(environment),
        otlp={endpoint: _reach(endpoint) for endpoint in endpoints},
        load=os.getloadavg()[0],
        cores=os.cpu_count() or 1,
        threads=max(_number(environment.get(name)) for name in (f"{PREFIX}THREADS", "OMP_NUM_THREADS")),
        **answered,
    )


def _ask_gateway(url: str, api_key: str | None, tenant: str | None, admin_key: str | None) -> dict[str, Any]:
    statuses: dict[str, int] = {}
    answers: dict[str, Any] = {}
    clock_s: float | None = None
    codes: dict[str, str | None] = {}
    given = dict.fromkeys(OPEN_PATHS, presented(None, None))
    given |= dict.fromkeys(KEYED_PATHS, presented(api_key or admin_key, tenant))
    given |= dict.fromkeys(ADMIN_PATHS, presented(admin_key, None))
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
            for path, headers in given.items():
                response = client.get(path, headers=headers)
                statuses[path] = response.status_code
                clock_s = _date(response) or clock_s
                if response.is_success and path not in OPEN_PATHS:
                    answers[path] = response.json()
                elif response.is_client_error:
                    codes[path] = error_code(response.content)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return {"gateway_error": _one_line(error)}
    return {"statuses": statuses, "codes": codes, "answers": answers, "gateway_clock_s": clock_s}


def _date(response: httpx.Response) -> float | None:
    """The middle of the second that the server says it is, less what has gone by here since."""
    try:
        return parsedate_to_datetime(response.headers["date"]).timestamp() + 0.5
    except (KeyError, ValueError, TypeError):
        return None


def is_local(redis_url: str) -> bool:
    """Whether it is reached by a socket or the loopback, so that no network lies between."""
    parts = urlsplit(redis_url)
    return parts.scheme == "unix" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def _reach(endpoint: str) -> str:
    """Why it cannot be connected to, "" where it can."""
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    try:
        port = parts.port or OTLP_PORT
        socket.create_connection((parts.hostname or "", port), TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        return _one_line(error)
    return ""


def _number(given: str | None) -> int:
    return int(given) if given is not None and given.isdecimal() else 1


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
