"""The services' own figures, from their /metrics: what a client's figures are compared with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench import report
from bench.report import Outcome, goodput_tokens
from shared import signals
from shared.errors import AdaServeError

SETTLE_S = 3.0
POLL_S = 0.02
SHARES = {"scheduling": "select", "speculation": "draft", "verification": "forward"}

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class NoMetrics(AdaServeError):
    """A /metrics that was asked for cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Finished requests with a target, those that attained, and the tokens of the latter."""

    judged: int
    attained: int
    goodput_tokens: int

    def __sub__(self, before: Tally) -> Tally:
        return Tally(
            judged=self.judged - before.judged,
            attained=self.attained - before.attained,
            goodput_tokens=self.goodput_tokens - before.goodput_tokens,
        )


def tally_of_outcomes(outcomes: Iterable[Outcome]) -> Tally:
    """As the server counts: requests that failed have not finished there."""
    finished = [one for one in outcomes if one.failure is None and one.has_target]
    return Tally(
        judged=len(finished),
        attained=sum(one.attained for one in finished),
        goodput_tokens=goodput_tokens(finished),
    )


def parse(text: str) -> Samples:
    """Every sample of a Prometheus text by name and labels. Raises NoMetrics."""
    try:
        return {
            (sample.name, frozenset(sample.labels.items())): float(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    except ValueError as error:
        raise NoMetrics(f"/metrics is not Prometheus text: {error}") from None


def total(samples: Samples, name: str, **labels: str) -> float:
    """Sum of the samples of that name that carry these labels."""
    wanted = set(labels.items())
    return sum(value for (found, carried), value in samples.items() if found == name and wanted <= carried)


def tally_of_gateway(samples: Samples) -> Tally:
    """Since the gateway started, all classes together."""
    requests = f"{signals.SLO_REQUESTS.name}_total"
    return Tally(
        judged=int(total(samples, requests)),
        attained=int(total(samples, requests, met="true")),
        goodput_tokens=int(total(samples, f"{signals.GOODPUT_TOKENS.name}_total")),
    )


def busy_seconds(services: Iterable[Samples]) -> dict[str, float]:
    """Time spent in selection, drafting and the verifier's forward passes, over all services together."""
    name = f"{signals.STEP_TIME.name}_seconds_sum"
    gathered = list(services)
    return {share: sum(total(one, name, part=part) for one in gathered) for share, part in SHARES.items()}


def shares(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float] | None:
    """Each one's part of the time between two readings; None when nothing was done."""
    return report.shares({name: after[name] - before[name] for name in SHARES})


async def scrape(client: httpx.AsyncClient, url: str) -> Samples:
    """Raises NoMetrics."""
    try:
        response = await client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoMetrics(f"{url} cannot be read: {error or type(error).__name__}") from None
    if response.is_success:
        return parse(response.text)
    path = "" if url.endswith("/metrics") else f"; the path /metrics is needed: {url.rstrip('/')}/metrics"
    raise NoMetrics(f"{url} answers {response.status_code}, not with metrics{path}")


async def settled(client: httpx.AsyncClient, url: str, before: Tally, judged: int) -> Tally:
    """The gateway's tally since `before`, once it has `judged` requests or after SETTLE_S.

    It counts a request when the last bytes have left, a moment after the client has read them.
    """
    for _ in range(round(SETTLE_S / POLL_S)):
        since = tally_of_gateway(await scrape(client, url)) - before
        if since.judged >= judged:
            break
        await asyncio.sleep(POLL_S)
    return since
