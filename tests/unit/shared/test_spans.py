"""Which requests are traced, and spans of those that turn out to be worth it only at their end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, http_attributes
from opentelemetry.semconv.attributes import error_attributes, server_attributes

from shared import signals, telemetry
from shared.telemetry import Telemetry
from tests.otlp import Collector

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = CLIENT[:-2] + "00"
NUM_REQUESTS = 400


@pytest.fixture
def gateway(otlp: Collector) -> Iterator[Telemetry]:
    with telemetry.configure("gateway", "g.1") as gateway:
        yield gateway


def share_taken(gateway: Telemetry, traceparent: str | None, **how: object) -> float:
    taken = [gateway.request(traceparent, "r", **how).is_recorded for _ in range(NUM_REQUESTS)]  # type: ignore[arg-type]
    return sum(taken) / NUM_REQUESTS


@pytest.mark.parametrize("traceparent", [None, CLIENT, "garbage"])
def test_a_share_is_taken_whatever_the_client_says(gateway: Telemetry, traceparent: str | None) -> None:
    assert 0.1 < share_taken(gateway, traceparent, share=0.25) < 0.4
    assert share_taken(gateway, traceparent, share=0.0) == 0.0
    assert share_taken(gateway, traceparent, share=1.0) == 1.0


def test_a_client_that_does_not_sample_is_obeyed(gateway: Telemetry) -> None:
    assert share_taken(gateway, UNSAMPLED, share=1.0) == share_taken(gateway, UNSAMPLED) == 0.0


def test_a_trusted_client_decides(gateway: Telemetry) -> None:
    assert share_taken(gateway, CLIENT, share=0.0, trusts=True) == 1.0
    assert share_taken(gateway, UNSAMPLED, share=1.0, trusts=True) == 0.0
    assert share_taken(gateway, None, share=0.0, trusts=True) == 0.0


def test_without_a_share_the_standard_sampler_decides(otlp: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    with telemetry.configure("gateway", "g.1") as gateway:
        assert share_taken(gateway, None) == 0.0
        assert share_taken(gateway, CLIENT) == 1.0
        assert share_taken(gateway, None, share=1.0) == 1.0


def test_who_goes_on_with_a_sampled_request_is_sampled_and_linked(otlp: Collector, gateway: Telemetry) -> None:
    gateway.request(None, "again", share=0.0, link=CLIENT).end()
    gateway.request(None, "other", share=0.0, link=UNSAMPLED).end()
    gateway.shutdown()
    (span,) = otlp.spans
    assert (span.name, span.links) == ("again", ((CLIENT.split("-")[1], CLIENT.split("-")[2]),))
    assert span.trace_id != CLIENT.split("-")[1]


def test_a_request_that_was_not_sampled_can_be_kept_at_its_end(otlp: Collector, gateway: Telemetry) -> None:
    span = gateway.request(UNSAMPLED, "late")
    told = span.traceparent
    span.set({"early": 1})
    assert gateway.child(told, "lost", 1, 2) == told
    assert span.keep()
    gateway.child(span.traceparent, "child", 1, 2)
    span.end(attributes={"late": True}, error="expired")
    gateway.shutdown()
    child, root = sorted(otlp.spans, key=lambda span: span.name)
    assert told is not None
    assert [root.trace_id, root.span_id] == told.split("-")[1:3]
    assert root.parent_id == UNSAMPLED.split("-")[2]
    assert root.attributes == {"early": 1, "late": True}
    assert (child.name, child.trace_id, child.parent_id) == ("child", root.trace_id, root.span_id)


def test_without_an_exporter_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    with telemetry.configure("gateway", "g.1") as quiet:
        span = quiet.request(None, "r", share=1.0)
        assert not span.keep()
        assert not span.is_recorded
        span.end()


def test_names_of_the_conventions_are_theirs() -> None:
    modules = (gen_ai_attributes, http_attributes, error_attributes, server_attributes)
    theirs = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    named = {name: value for name, value in vars(signals).items() if name.isupper() and isinstance(value, str)}
    attributes = {value for value in named.values() if "." in value}
    prefixes = ("gen_ai.", "http.", "server.", "error.")
    assert {name for name in attributes if name.startswith(prefixes)} <= theirs
    ours = {name for name in attributes if not name.startswith(prefixes)}
    spans = {*signals.PARENT_OF, signals.DRAFTER_BATCH, signals.SELECTOR_BATCH, signals.VERIFIER_STEP}
    assert all(name.startswith("adaserve.") for name in ours - spans)
