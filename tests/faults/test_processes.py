"""A short storm and kills on real processes with table models: no stream is anything but plain decoding.

The trace of a stream goes on with whoever takes it over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest

from shared import signals
from shared.embedded_redis import EmbeddedRedis
from tests.faults.cell import Cell, PlainDecoding, bodies, cell
from tests.faults.killer import Killer
from tests.faults.load import Load
from tests.faults.proxy import Fault, Proxy, Weather, running
from tests.otlp import Collector, ReceivedSpan, collector
from tests.span_table import complaints

TRACE = "c" * 32
PROMPT = list(range(40, 60))
NUM_TOKENS = 400


@dataclass(frozen=True, slots=True)
class Stormy:
    """A cell with two verifiers behind a proxy, and its traces."""

    target: Cell
    weather: Weather
    proxy: Proxy
    traces: Collector


@pytest.fixture(scope="module")
def stormy() -> Iterator[Stormy]:
    weather = Weather(3, 0.01)
    with (
        collector() as traces,
        EmbeddedRedis() as redis,
        running(str(redis.socket), weather.decide) as (proxy, url),
    ):
        exported = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{traces.endpoint}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with cell(url, num_verifiers=2, environment=exported) as target:
            yield Stormy(target, weather, proxy, traces)


def test_a_storm_and_a_killed_verifier_cost_no_token(stormy: Stormy) -> None:
    load = Load(stormy.target.gateways, bodies(3, max_tokens=60), PlainDecoding(), 4)
    stormy.weather.storm()
    load.start()
    time.sleep(1.0)
    ends = time.monotonic() + 30.0
    while not faults(stormy.proxy) and time.monotonic() < ends:  # a busy machine sends few commands
        time.sleep(0.1)
    stormy.weather.calm()
    Killer(stormy.target, 3, ["verifier"]).kill()
    load.stop()
    assert load.record.damage == []
    assert load.record.outcomes["whole"] >= 4
    assert faults(stormy.proxy) > 0


def faults(proxy: Proxy) -> int:
    """That have happened."""
    return sum(count for fault, count in proxy.counts.items() if fault is not Fault.NONE)


def test_a_trace_survives_a_take_over(stormy: Stormy) -> None:
    stormy.target.stack.wait_ready(*stormy.target.names)
    traces = stormy.traces
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(stream, stormy.target.gateways[0])
        died = kill_the_server_of(traces, stormy.target)
        assert asked.result() == NUM_TOKENS
    spans = traces.wait_for(lambda spans: bool(of_request(spans, signals.GATEWAY_REQUEST)))
    spans = traces.wait_for(lambda spans: last_token(spans) == len(PROMPT) + NUM_TOKENS)
    (root,) = of_request(spans, signals.GATEWAY_REQUEST)
    assert root.attributes[signals.GEN_AI_OUTPUT_TOKENS] == NUM_TOKENS
    served_by = {span.instance for span in of_request(spans, signals.VERIFIER_ITERATION)}
    assert died in served_by
    assert len(served_by) == 2
    first, second = sorted(of_request(spans, signals.VERIFIER_QUEUE), key=lambda span: span.start_ns)
    assert (first.instance, first.attributes[signals.IS_TAKE_OVER]) == (died, False)
    assert second.instance in served_by - {died}
    assert second.attributes[signals.IS_TAKE_OVER]
    assert len(PROMPT) < second.attributes[signals.POSITION] < len(PROMPT) + NUM_TOKENS
    (again,) = [span for span in of_request(spans, signals.VERIFIER_PREFILL) if span.instance == second.instance]
    assert again.attributes[signals.GEN_AI_INPUT_TOKENS] == second.attributes[signals.POSITION]
    for span in (first, second, again):
        assert span.parent_id == root.span_id
        assert complaints(span.name, span.attributes) == []


def stream(port: int) -> int:
    """The number of tokens that came."""
    body = {
        "model": "default",
        "prompt": PROMPT,
        "max_tokens": NUM_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "return_token_ids": True,
    }
    headers = {"traceparent": f"00-{TRACE}-{'d' * 16}-01"}
    url = f"http://127.0.0.1:{port}/v1/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as response:
        chunks = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    return sum(len(chunk["choices"][0].get("token_ids", ())) for chunk in chunks)


def kill_the_server_of(traces: Collector, target: Cell) -> str:
    """Once its first spans are here, which die with the process otherwise."""
    spans = traces.wait_for(lambda spans: len(of_request(spans, signals.VERIFIER_ITERATION)) > 3)
    instance = of_request(spans, signals.VERIFIER_ITERATION)[0].instance
    target.stack.kill(instance.partition(".")[0])
    return instance


def of_request(spans: list[ReceivedSpan], name: str) -> list[ReceivedSpan]:
    return [span for span in spans if span.name == name and span.trace_id == TRACE]


def last_token(spans: list[ReceivedSpan]) -> int:
    """Where the output of the request stands, as far as its spans tell."""
    told = [span.attributes for span in of_request(spans, signals.VERIFIER_ITERATION)]
    ends = [
        about[signals.POSITION] + about[signals.COMMITTED_TOKENS] for about in told if signals.POSITION in about
    ]
    return max(ends, default=0)
