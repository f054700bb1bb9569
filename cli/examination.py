"""A snapshot of a deployment for `adaserve doctor`: asks gateway, Redis and this machine, and changes nothing."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from redis.exceptions import RedisError

from cli.bus import without_password
from cli.completion import error_code
from cli.diagnosis.snapshot import Redis, Snapshot
from cli.settings import presented
from shared.errors import BusUnavailable, ConfigurationError
from shared.failures import bus_errors
from shared.heartbeat import described
from shared.replies import text
from shared.settings import PREFIX
from shared.streams import connect
from shared.topics import NUM_TIERS, Keys, Kind

TIMEOUT_S = 5.0
BETWEEN_S = 1.0  # two looks at the queues
KINDS: tuple[Kind, ...] = ("gateway", "verifier", "drafter", "selector")
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
    cell: str,
    environment: Mapping[str, str],
) -> Snapshot:
    """Takes about a second. Raises ConfigurationError for what is no cell, no URL of Redis or no key."""
    keys = Keys(cell)
    answered = _ask_gateway(url, api_key, tenant, admin_key)
    redis: Redis | None = None
    redis_error = None
    if redis_url is not None:
        redis, redis_error = _ask_redis(redis_url, keys)
    endpoints = [environment[name] for name in OTLP if environment.get(name)][:1]
    return Snapshot(
        url=url,
        cell=cell,
        tenant=tenant,
        has_key=bool(api_key),
        redis=redis,
        redis_error=redis_error,
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


def _ask_redis(url: str, keys: Keys) -> tuple[Redis | None, str | None]:
    try:
        client = connect(url)
    except ValueError as error:  # redis-py's, before it has asked anybody; what is no URL may hold a password
        raise ConfigurationError(f"--redis or REDIS_URL is no URL of a Redis: {_one_line(error)}") from None
    try:
        with bus_errors():
            before = _waiting(client, keys)
            time.sleep(BETWEEN_S)
            now = _waiting(client, keys)
            seconds, micros = client.time()
            info: dict[str, Any] = client.info()
            found = Redis(
                version=str(info.get("redis_version", "")),
                info=info,
                members={kind: _members(client, keys, kind) for kind in KINDS},
                dead_letters=int(client.xlen(keys.dead)),
                waiting={tier: (now[tier], now[tier] - before[tier]) for tier in now},
                clock_s=seconds + micros / 1e6,
            )
    except (BusUnavailable, RedisError, ValueError) as error:
        return None, f"Redis at {without_password(url)} does not answer: {_one_line(error)}"
    finally:
        client.close()
    return found, None


def _waiting(client: Any, keys: Keys) -> dict[int, int]:
    return {
        tier: int(client.xlen(keys.requests(tier))) + int(client.zcard(keys.waiting(tier)))
        for tier in range(NUM_TIERS)
    }


def _members(client: Any, keys: Keys, kind: Kind) -> dict[str, dict[str, Any] | None]:
    """Also those without a heartbeat, which others forget or take over from."""
    names = sorted(text(name) for name in client.smembers(keys.members(kind)))
    beats = client.mget([keys.heartbeat(kind, name) for name in names]) if names else []
    return {name: None if beat is None else described(beat) or {} for name, beat in zip(names, beats, strict=True)}


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
