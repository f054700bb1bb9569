"""Spans of all four services in a receiver that is not ours: Arize Phoenix, over HTTP and over gRPC.

`make receiver` installs it into a virtual environment of its own. What it has stored is asked for by its API, and
judged by the tables of the end-to-end tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.local import free_port, local_stack
from bench.prompts import source_prompts
from shared import signals
from tests.e2e.test_trace import EDGES, has_all, in_trace, iterations, stream, trace_of
from tests.otlp import ReceivedSpan
from tests.span_table import complaints

READY_S, RECEIVED_S = 120.0, 60.0
PROTOCOLS = ("http/protobuf", "grpc")


@contextmanager
def phoenix(program: str, folder: Path) -> Iterator[tuple[str, int]]:
    """A running Phoenix: the address of its API and OTLP/HTTP, and the port of OTLP/gRPC. Raises RuntimeError."""
    port, grpc_port = free_port(), free_port()
    own = {"HOST": "127.0.0.1", "PORT": str(port), "GRPC_PORT": str(grpc_port), "WORKING_DIR": str(folder)}
    environment = os.environ | {f"PHOENIX_{name}": value for name, value in own.items()}
    environment |= {"PHOENIX_TELEMETRY_ENABLED": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve"], env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            _until(lambda: _answers(f"{url}/healthz"), READY_S, "the receiver did not start")
            yield url, grpc_port
        finally:
            process.terminate()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False


def _until(holds: Any, seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise)
        time.sleep(0.2)


def stored(url: str) -> list[ReceivedSpan]:
    """What the receiver holds."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query = {"limit": 1000, **({"cursor": cursor} if cursor else {})}
        answer = httpx.get(f"{url}/v1/projects/default/spans/otlpv1", params=query, timeout=20)
        if answer.status_code == 404:  # nothing has come yet
            return []
        page = answer.raise_for_status().json()
        found += page["data"]
        cursor = page["next_cursor"]
        if not cursor:
            return [_span(one) for one in found]


def _span(told: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        service="",  # resources are not told
        instance="",
        name=told["name"],
        trace_id=told["trace_id"],
        span_id=told["span_id"],
        parent_id=told.get("parent_span_id") or "",
        start_ns=int(told["start_time_unix_nano"]),
        end_ns=int(told["end_time_unix_nano"]),
        kind=0,
        attributes={pair["key"]: _value(pair["value"]) for pair in told["attributes"]},
        links=(),
    )


def _value(value: dict[str, Any]) -> Any:
    ((kind, held),) = ((kind, held) for kind, held in value.items() if held is not None)
    if kind == "array_value":
        return [_value(one) for one in held["values"]]
    return int(held) if kind == "int_value" else held


def judge(spans: list[ReceivedSpan]) -> list[str]:
    """What is wrong with the spans of one trace."""
    by_id = {span.span_id: span for span in spans}
    wrong = []
    for parent, child in EDGES:
        parents = [by_id[span.parent_id].name for span in spans if span.name == child]
        wrong += [f"{child} is below {name}, not {parent}" for name in parents if name != parent]
        wrong += [] if parents else [f"no {child}"]
    told = [span for span in spans if span.name != signals.VERIFIER_ITERATION] + iterations(spans)
    return wrong + [words for span in told for words in complaints(span.name, span.attributes)]


def tree(spans: list[ReceivedSpan]) -> list[str]:
    """Each edge with the number of its children, in the order of the table."""
    return [f"  {parent} → {child}: {sum(span.name == child for span in spans)}" for parent, child in EDGES]


def over(protocol: str, program: str) -> list[str]:
    """One streamed request with its spans sent so; what is wrong with what has arrived."""
    with (
        tempfile.TemporaryDirectory(prefix="ada-receiver-") as folder,
        phoenix(program, Path(folder)) as (url, grpc),
    ):
        endpoint = url if protocol.startswith("http") else f"http://127.0.0.1:{grpc}"
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        with local_stack({"selector": {"POLICY": "paper"}}, environment=environment) as stack:
            request = stream(stack, source_prompts(1, seed=21)[0])
            spans: list[ReceivedSpan] = []

            def is_whole() -> bool:
                spans[:] = stored(url)
                trace = trace_of(spans, request)
                return trace is not None and has_all(spans, trace)

            _until(is_whole, RECEIVED_S, f"over {protocol} the trace did not arrive whole")
        mine = in_trace(spans, trace_of(spans, request) or "")
    print(f"{protocol}: {len(mine)} spans of one request", *tree(mine), sep="\n")  # noqa: T201
    return judge(mine)


def main() -> int:
    """Both protocols; 1 where anything is wrong."""
    wrong = [f"{protocol}: {words}" for protocol in PROTOCOLS for words in over(protocol, sys.argv[1])]
    print(*wrong or ["every edge and attribute is as the tables say"], sep="\n")  # noqa: T201
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
