"""The spans of a request, in the client's trace, with nothing of its content in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared import signals
from tests.otlp import Collector
from tests.otlp import collector as run_collector
from tests.unit.services.gateway.conftest import Served

TRACE, PARENT = "a" * 32, "b" * 16


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with run_collector() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield received


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_has_its_spans_in_the_clients_trace(
    collector: Collector, served: Served, stream: bool
) -> None:
    body = {"prompt": "canary", "stream": stream}
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    (await served.http.post("/v1/completions", json=body, headers=headers)).raise_for_status()
    await served.until(lambda: len(collector.spans) == 2)
    spans = {span.name: span for span in collector.spans}
    request, deliver = spans[signals.GATEWAY_REQUEST], spans[signals.GATEWAY_DELIVER]
    assert (request.trace_id, request.parent_id) == (TRACE, PARENT)
    assert (deliver.trace_id, deliver.parent_id) == (TRACE, request.span_id)
    message = served.verifier.requests[0]
    assert served.verifier.traceparents == [f"00-{TRACE}-{request.span_id}-01"]
    assert request.attributes[signals.REQUEST_ID] == message.request
    assert request.attributes[signals.GEN_AI_INPUT_TOKENS] == len(message.prompt)
    assert "canary" not in repr(collector.spans)
