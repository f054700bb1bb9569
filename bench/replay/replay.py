"""A whole replay: probe the server, send every request at its time, report from both sides."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import httpx

from bench.replay.client import complete
from bench.replay.counters import (
    NoMetrics,
    Samples,
    Tally,
    busy_seconds,
    scrape,
    settled,
    shares,
    tally_of_gateway,
    tally_of_outcomes,
)
from bench.replay.open_loop import Exchange, send_all
from bench.replay.outcomes import by_client, by_server
from bench.replay.plan import Planned, Server, Wishes, plan
from bench.replay.recording import RecordedRequest, RecordedRun, Recording, ServerSample
from bench.replay.reply import Reply
from bench.replay.sampling import sampled
from bench.report import Outcome, Report, attainment, failures, percentiles
from bench.traces import Trace

CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds a replay: seconds for each request, requests open at a time."""

    timeout_s: float = 120.0
    max_open: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One trace replayed once. `server` is the gateway's own tally of it, None when it has none to read."""

    planned: Sequence[Planned]
    exchange: Exchange
    server: Tally | None
    time_share: Mapping[str, float] | None
    started_at: float = 0.0  # seconds since 1970
    samples: Sequence[ServerSample] = ()

    @property
    def outcomes(self) -> list[Outcome]:
        """By the server's commit times."""
        return [by_server(*pair, self.exchange.start_ms) for pair in self._pairs]

    @property
    def seen(self) -> list[Outcome]:
        """As the client saw it."""
        return [by_client(*pair, self.exchange.start_ms) for pair in self._pairs]

    @property
    def tally(self) -> Tally:
        """What the server must have counted."""
        return tally_of_outcomes(self.outcomes)

    @property
    def _pairs(self) -> list[tuple[Planned, Reply]]:
        return list(zip(self.planned, self.exchange.replies, strict=True))


@asynccontextmanager
async def connected(url: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a bound on connections: an open loop must not wait for one."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=timeout, limits=limits, trust_env=False
    ) as client:
        yield client


async def replay(
    client: httpx.AsyncClient,
    trace: Trace,
    server: Server,
    wishes: Wishes,
    *,
    prompts: Mapping[str, str],
    limits: Limits,
    metrics_urls: Sequence[str] = (),
    tenants: Sequence[str] | None = None,
    on_change: Callable[[int, int], None] = lambda _due, _done: None,
) -> Run:
    """`metrics_urls` are those of the other services, for the shares of their time. Raises NoMetrics for them.

    `tenants` has the one that each request of the trace comes from.
    """
    planned = plan(trace, server, wishes, prompts, tenants)
    before = await _tally(client)
    busy = busy_seconds(await _all(client, metrics_urls))
    started_at = time.time()
    async with sampled(client, ("/metrics", *metrics_urls)) as figures:
        exchange = await send_all(
            planned,
            lambda request: complete(client, request.body, limits.timeout_s, request.headers),
            max_open=limits.max_open,
            on_change=on_change,
        )
    run = Run(
        planned=planned,
        exchange=exchange,
        server=None,
        time_share=None,
        started_at=started_at,
        samples=figures.samples,
    )
    counted = None if before is None else await settled(client, "/metrics", before, run.tally.judged)
    share = shares(busy, busy_seconds(await _all(client, metrics_urls)))
    return replace(run, server=counted, time_share=share)


async def _tally(client: httpx.AsyncClient) -> Tally | None:
    try:
        return tally_of_gateway(await scrape(client, "/metrics"))
    except NoMetrics:
        return None  # another server, or a proxy in front


async def _all(client: httpx.AsyncClient, urls: Sequence[str]) -> list[Samples]:
    return [await scrape(client, url) for url in urls]


def report(trace: str, server: Server, system: str, runs: Mapping[int, Run]) -> Report:
    """The report of all runs; time shares are those of the last."""
    share = list(runs.values())[-1].time_share
    outcomes = {seed: run.outcomes for seed, run in runs.items()}
    return Report(trace=trace, hardware=server.model, system=system, runs=outcomes, time_share=share)


def recording(
    trace: str, server: Server, wishes: Wishes, runs: Mapping[int, Run], *, tenant: str = "default"
) -> Recording:
    """Of all runs. `tenant` has the requests that name none."""
    return Recording(
        trace=trace,
        model=server.model,
        system="speculation" if wishes.speculation else "plain",
        temperature=wishes.temperature,
        zero_load_ms=server.zero_load_ms,
        context_tokens=server.context,
        runs=[recorded(seed, run, tenant) for seed, run in runs.items()],
    )


def recorded(seed: int, run: Run, tenant: str = "default") -> RecordedRun:
    """One run, by the server's commit times."""
    replies = zip(run.planned, run.outcomes, run.exchange.replies, strict=True)
    requests = [
        RecordedRequest.of(
            outcome,
            tenant=planned.tenant or tenant,
            prompt_tokens=int(reply.usage.get("prompt_tokens") or planned.prompt_tokens),
            drafted=int((reply.metrics.get("speculative_decoding") or {}).get("num_draft_tokens") or 0),
        )
        for planned, outcome, reply in replies
    ]
    return RecordedRun(seed=seed, started_at=run.started_at, requests=requests, samples=list(run.samples))


def as_replayed(server: Server, runs: Mapping[int, Run]) -> dict[str, Any]:
    """What only a replay knows, beside the report: the client's own view, failures, cuts, the server's tally."""
    every = list(runs.values())
    seen = [outcome for run in every for outcome in run.seen]
    planned = [one for run in every for one in run.planned]
    replies = [reply for run in every for reply in run.exchange.replies]
    got = [reply.usage["prompt_tokens"] for reply in replies if reply.usage.get("prompt_tokens")]
    return {
        "requests": len(planned),
        "failures": failures(seen),
        "zero_load_ms": server.zero_load_ms,
        "context_tokens": server.context,
        "cut": {name: sum(name in one.cut for one in planned) for name in ("prompt", "output")},
        "prompt_tokens": {
            "planned": fmean(one.prompt_tokens for one in planned),
            "sent": fmean(got) if got else None,
        },
        "late_ms": percentiles(late for run in every for late in run.exchange.late_ms),
        "seen_by_client": {
            "attainment": attainment(seen),
            "tpot_ms": percentiles(outcome.tpot_ms for outcome in seen),
            "ttft_ms": percentiles(outcome.ttft_ms for outcome in seen),
        },
        "tally": [_tallies(run) for run in every],
    }


def _tallies(run: Run) -> dict[str, Any]:
    return {
        "client": _as_json(run.tally),
        "server": None if run.server is None else _as_json(run.server),
        "equal": None if run.server is None else run.tally == run.server,
    }


def _as_json(tally: Tally) -> dict[str, int]:
    return {"judged": tally.judged, "attained": tally.attained, "goodput_tokens": tally.goodput_tokens}
