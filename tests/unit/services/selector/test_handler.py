"""The selector's messages (services/selector/handler.py), through the codec and on a real bus."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from services.selector.control import PolicySettings
from services.selector.handler import Selector
from services.selector.profiles import redis_loader
from shared import codec, signals
from shared.labels import LabelCounts
from shared.latency import LatencyModel
from shared.messages import SLO_PHASE, TRACEPARENT, CandidateTrees, SelectedTrees
from shared.streams import GroupReader, HintReader, OwnedStream, hint, keep_alive, send
from shared.telemetry import Telemetry, configure
from shared.topics import SELECT, SELECTOR_GROUP, VERIFY, Keys
from shared.tree import EMPTY
from shared.worker import Worker
from tests.otlp import collector
from tests.strategies import messages
from tests.unit.services.selector.batches import batch, tree

TABLE = LatencyModel(tokens=(1, 8, 64), ms=(10.0, 12.0, 26.0))
SETTINGS = PolicySettings(policy="paper", budget=8)
BUSHY = tree([-1, -1, 0, 0, 2, 2], [0.7, 0.2, 0.42, 0.21, 0.294, 0.126])
FLAT = tree([-1, -1, 0, 1, 2, 3], [0.5, 0.4, 0.35, 0.24, 0.14, 0.14])
SAMPLED = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with configure("selector", "s.1") as telemetry:
        yield telemetry


def answer(message: CandidateTrees, telemetry: Telemetry, table: LatencyModel | None = TABLE) -> SelectedTrees:
    """What the verifier decodes."""
    selector = Selector(Keys("test"), SETTINGS, lambda verifier, version: table, telemetry)
    [out] = selector.handle(codec.decode(CandidateTrees, codec.encode(message)))
    assert out.stream == f"{{test}}:verify:{message.verifier}"
    return codec.decode(SelectedTrees, codec.encode(out.message))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=messages(CandidateTrees), table=st.none() | st.just(TABLE))
def test_any_message_is_answered_by_one_that_echoes_it(
    message: CandidateTrees, table: LatencyModel | None, telemetry: Telemetry
) -> None:
    reply = answer(message, telemetry, table)
    for echoed in ("verifier", "drafter", "ring", "step", "draft_ms"):
        assert getattr(reply, echoed) == getattr(message, echoed)
    for column in ("request", "epoch", "position", "acknowledged", "trace_row"):
        assert getattr(reply, column).tobytes() == getattr(message, column).tobytes()
    for chosen, candidates in zip(reply.trees(), message.trees(), strict=True):
        paths = list(zip(candidates.tokens.tolist(), candidates.logprobs.tolist(), strict=True))
        assert set(zip(chosen.tokens.tolist(), chosen.logprobs.tolist(), strict=True)) <= set(paths)


def test_worked_example_arrives_in_selection_order_with_raw_probabilities(telemetry: Telemetry) -> None:
    message = batch(
        [BUSHY, FLAT, EMPTY],
        elapsed_ms=np.full(3, 10.0, np.float32),
        tpot_ms=np.array([27 / 1.6, 27 / 1.8, 1.0], np.float32),  # t_spec = 4 + 12 + 1
        committed=np.array([1, 1, 0], np.int32),
        overhead_ms=1.0,
        warm=np.array([False, False, True]),
    )
    reply = answer(message, telemetry)
    assert reply.tree_offsets.tolist() == [0, 3, 6, 6]
    assert reply.tokens.tolist() == [100, 102, 104, 100, 101, 102]
    assert reply.parents.tolist() == [-1, 0, 1, -1, -1, 0]
    assert (reply.phase == SLO_PHASE).tolist() == [True, False, False, True, True, False]
    assert reply.logprobs.tolist() == [*BUSHY.logprobs[[0, 2, 4]].tolist(), *FLAT.logprobs[:3].tolist()]
    assert (reply.budget_used, reply.depth, reply.width) == (8, 3, 3)
    assert (reply.predicted_ms, reply.stop_value) == (17.0, 0.0)
    assert reply.late.tolist() == [False, False, True]
    assert reply.weight.tolist() == [1.0, 1.0, 1.0]


def test_calibrated_order_chooses_and_raw_probabilities_are_sent(telemetry: Telemetry) -> None:
    """Where the target never accepts a draft at low temperature, the cold row's better guesses lose."""
    counts = LabelCounts.none()
    counts.labels[[0, 4]] = 1000
    counts.accepted[4] = 900
    labels = {str(bucket).encode(): data for bucket, data in counts.pack().items()}
    selector = Selector(
        Keys("test"),
        PolicySettings(policy="paper", budget=4),
        lambda verifier, version: TABLE,
        telemetry,
        lambda pair: labels,
    )
    rows = [tree([-1, 0], [0.9, 0.8]), tree([-1, -1], [0.3, 0.2])]
    message = batch(rows, calibration="d:t", temperature_bucket=np.array([0, 4], np.uint8))

    def offsets_and_logprobs() -> tuple[list[int], list[float]]:
        [out] = selector.handle(message)
        reply = codec.decode(SelectedTrees, codec.encode(out.message))
        return reply.tree_offsets.tolist(), reply.logprobs.tolist()

    assert offsets_and_logprobs() == ([0, 2, 2], rows[0].logprobs.tolist())
    assert selector.has_background_work
    selector.background()
    assert not selector.has_background_work
    assert offsets_and_logprobs() == ([0, 0, 2], rows[1].logprobs.tolist())


def test_without_calibration_there_is_no_background_work(telemetry: Telemetry) -> None:
    selector = Selector(Keys("test"), SETTINGS, lambda verifier, version: TABLE, telemetry)
    selector.handle(batch([BUSHY], calibration="d:t"))
    selector.background()
    assert not selector.has_background_work


def test_traces_of_sampled_requests_ride_on(telemetry: Telemetry) -> None:
    message = batch(
        [BUSHY, FLAT],
        trace_row=np.array([1], np.int32),
        traceparent=np.array([SAMPLED.encode()], TRACEPARENT),
    )
    reply = answer(message, telemetry)
    assert reply.trace_row.tolist() == [1]
    assert reply.traceparent.tolist() == [SAMPLED.encode()]  # nobody records here: the caller's stays whole


def test_each_sampled_request_gets_a_span_in_its_own_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SAMPLED.replace("ab", "12").replace("cd", "34")
    message = batch(
        [BUSHY, FLAT, EMPTY],
        trace_row=np.array([0, 1], np.int32),
        traceparent=np.array([SAMPLED.encode(), other.encode()], TRACEPARENT),
    )
    with collector() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.endpoint)
        with configure("selector", "s.1") as telemetry:
            reply = answer(message, telemetry)
        spans = received.wait_for(lambda spans: len(spans) == 3)
    selects = {span.trace_id: span for span in spans if span.name == signals.SELECTOR_SELECT}
    assert set(selects) == {SAMPLED.split("-")[1], other.split("-")[1]}
    for parent, passed_on in zip((SAMPLED, other), reply.traceparent.tolist(), strict=True):
        span = selects[parent.split("-")[1]]
        assert span.parent_id == parent.split("-")[2]
        assert passed_on.decode() == f"00-{span.trace_id}-{span.span_id}-01"
    [whole] = [span for span in spans if span.name == signals.SELECTOR_BATCH]
    assert {trace for trace, _ in whole.links} == set(selects)
    assert whole.attributes[signals.NUM_SELECTED] == reply.budget_used - 3


def test_selection_is_counted_by_phase(telemetry: Telemetry) -> None:
    answer(batch([BUSHY], tpot_ms=np.array([1.0], np.float32)), telemetry)
    metrics = telemetry.prometheus().decode()
    assert 'adaserve_draft_tokens_selected_total{phase="slo"} 6.0' in metrics
    assert "adaserve_budget_used" in metrics
    assert 'adaserve_step_time_seconds_count{part="select"} 1.0' in metrics


@pytest.fixture
def worker(redis_client: Redis, keys: Keys, telemetry: Telemetry) -> Worker[CandidateTrees]:
    """The selector's loop in burst mode, its stream ready."""
    keep_alive(redis_client, [OwnedStream(keys.select, SELECTOR_GROUP), OwnedStream(keys.verify("v.1"))])
    return Worker(
        GroupReader(redis_client, keys.select, SELECTOR_GROUP, "s.1"),
        Selector(keys, SETTINGS, redis_loader(redis_client, keys), telemetry),
        client=redis_client,
        decode=SELECT.decode,
        key=lambda message: (message.verifier, message.ring),
        hop="select",
        telemetry=telemetry,
        burst=True,
    )


def publish(client: Redis, keys: Keys, *bodies: bytes) -> None:
    send(client, [hint(keys.select, body, traceparent=None, now_ms=0.0) for body in bodies])


def replies(client: Redis, keys: Keys) -> list[SelectedTrees]:
    stream = keys.verify("v.1")
    return [VERIFY.decode(entry.body) for entry in HintReader(client, [stream]).read(None).get(stream, [])]


def test_running_worker_answers_the_newest_of_each_ring_and_drops_rubbish(
    redis_client: Redis, keys: Keys, worker: Worker[CandidateTrees], telemetry: Telemetry
) -> None:
    redis_client.set(keys.profile("v.1", TABLE.version), TABLE.to_bytes())
    rows = [BUSHY, FLAT]
    publish(
        redis_client,
        keys,
        SELECT.encode(batch(rows, step=1, profile=TABLE.version)),
        b"rubbish",
        SELECT.encode(batch(rows, step=2, ring=1, profile=TABLE.version)),
        SELECT.encode(batch(rows, step=3, profile=TABLE.version)),
    )
    worker.run()
    found = replies(redis_client, keys)
    assert [(reply.ring, reply.step, reply.budget_used) for reply in found] == [(1, 2, 8), (0, 3, 8)]
    metrics = telemetry.prometheus().decode()
    assert 'adaserve_hints_dropped_total{reason="unreadable"} 1.0' in metrics
    assert 'adaserve_hints_dropped_total{reason="superseded"} 1.0' in metrics


def test_running_worker_speculates_as_soon_as_the_table_is_there(
    redis_client: Redis, keys: Keys, worker: Worker[CandidateTrees]
) -> None:
    body = SELECT.encode(batch([BUSHY], profile=TABLE.version))
    publish(redis_client, keys, body)
    worker.run()
    redis_client.set(keys.profile("v.1", TABLE.version), TABLE.to_bytes())
    publish(redis_client, keys, body)
    worker.run()
    assert [len(reply.tokens) for reply in replies(redis_client, keys)] == [0, 6]
