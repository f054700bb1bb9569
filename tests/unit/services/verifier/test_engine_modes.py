"""Verification modes in a whole ring of table models: at once, and without a change of output."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from services.verifier.watch import Reason
from shared import signals
from shared.messages import SelectedTrees
from shared.modes import CELL, Mode, Order
from shared.telemetry import configure
from tests.otlp import collector
from tests.requests import request
from tests.ring import check

LONG: dict[str, Any] = {"prompt": [1, 2, 3], "max_tokens": 150, "ignore_eos": True, "temperature": 1.0}


def test_full_verification_counts_from_the_next_step_on_and_changes_no_token(build: Any) -> None:
    ring = build(noise=0.3)
    asked = request(1, **LONG)
    ring.submit(asked)
    ring.turn(12)
    (generation,) = ring.scheduler.running
    assert generation.tally.num_spec_steps > 3
    ring.order(Mode.FULL_VERIFICATION)
    before = generation.tally.num_spec_steps
    ring.turn(12)
    assert generation.tally.num_spec_steps == before
    assert not ring.ring.is_waiting
    assert (ring.engine.stance.status.mode, ring.engine.stance.status.reason) == (
        Mode.FULL_VERIFICATION,
        "operator",
    )
    ring.order(Mode.SPECULATIVE)
    ring.turn(12)
    assert generation.tally.num_spec_steps > before
    assert ring.engine.stance.status.mode is Mode.SPECULATIVE
    check(ring, [asked])


def test_the_log_warns_when_speculation_goes_and_tells_when_it_is_back(
    build: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="services.verifier.stance")
    ring = build(noise=0.3)
    ring.submit(request(1, **LONG))
    ring.turn(5)
    ring.order(Mode.FULL_VERIFICATION)
    ring.turn(5)
    ring.order(Mode.AUTO)
    ring.turn(5)
    told = [(record.levelname, record.getMessage()) for record in caplog.records if "speculation is" in record.msg]
    assert told[-2:] == [
        ("WARNING", "speculation is off: operator"),
        ("INFO", "speculation is on (was: operator)"),
    ]


def test_a_wake_up_that_was_lost_costs_a_second_at_most(build: Any) -> None:
    ring = build(noise=0.3)
    ring.submit(request(1, **LONG))
    ring.turn(5)
    (generation,) = ring.scheduler.running
    ring.client.hset(ring.keys.modes, CELL, Order(mode=Mode.FULL_VERIFICATION).pack())
    ring.time_ms += 1000.0
    ring.turn(2)
    before = generation.tally.num_spec_steps
    ring.turn(5)
    assert generation.tally.num_spec_steps == before


def test_an_order_for_one_tenant_leaves_the_others_alone(build: Any) -> None:
    ring = build(noise=0.3)
    asked = [request(1, tenant="exact", **LONG), request(2, tenant="other", **LONG)]
    for each in asked:
        ring.submit(each)
    ring.order(Mode.FULL_VERIFICATION, "tenant:exact")
    ring.turn(20)
    steps = {row.request.tenant: row.tally.num_spec_steps for row in ring.scheduler.running}
    assert steps["exact"] == 0
    assert steps["other"] > 3
    check(ring, asked)


def test_orders_that_cannot_be_read_leave_the_modes_as_they_are(build: Any) -> None:
    ring = build(noise=0.3)
    ring.order(Mode.FULL_VERIFICATION)
    ring.submit(request(1, **LONG))
    ring.turn(5)
    ring.client.hset(ring.keys.modes, CELL, b"of another version")
    ring.time_ms += 1000.0
    ring.turn(5)
    (generation,) = ring.scheduler.running
    assert generation.tally.num_spec_steps == 0


def test_a_draft_of_random_tokens_is_left_within_fifty_iterations_and_tried_again(build: Any) -> None:
    ring = build(noise=0.3)
    asked = request(1, **LONG)
    ring.submit(asked)
    chance = np.random.default_rng(1)

    def random_tokens(reply: SelectedTrees) -> SelectedTrees:
        tokens = chance.integers(0, 12, len(reply.tokens)).astype(np.int32)
        return dataclasses.replace(reply, tokens=tokens, logprobs=np.full(len(tokens), -0.1, np.float32))

    ring.bus.tamper = random_tokens
    steps = 0
    while ring.engine.stance.status.reason != Reason.COLLAPSE:
        before = ring.engine.num_steps
        ring.turn()
        steps += ring.engine.num_steps - before
        assert steps <= 50
    assert ring.engine.stance.status.mode is Mode.FULL_VERIFICATION
    ring.bus.tamper = lambda reply: reply
    (generation,) = ring.scheduler.running
    before = generation.tally.num_spec_steps
    ring.turn(5)
    assert generation.tally.num_spec_steps == before
    ring.time_ms += 60_000.0
    ring.turn(5)
    assert generation.tally.num_spec_steps > before
    check(ring, [asked])


def test_metrics_tell_the_mode_its_reason_and_what_an_iteration_was_made_of(build: Any) -> None:
    with configure("verifier", "v.1") as telemetry:
        ring = build(noise=0.3, telemetry=telemetry)
        ring.submit(request(1, **LONG))
        ring.turn(12)
        ring.order(Mode.FULL_VERIFICATION)
        ring.time_ms += 1000.0
        ring.turn(2)
        lines = telemetry.prometheus().decode().splitlines()
    told = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}
    assert told["adaserve_mode_speculative"] == 0
    assert {
        reason: told[f'adaserve_full_verification{{reason="{reason}"}}'] for reason in signals.MODE_REASONS
    } == {reason: float(reason == "operator") for reason in signals.MODE_REASONS}
    verified = told["adaserve_draft_tokens_accepted_total"] + told["adaserve_tokens_wasted_total"]
    assert 0 < told["adaserve_draft_tokens_accepted_total"] < verified
    assert 0 < told["adaserve_draft_trees_total"] <= told['adaserve_steps_total{kind="speculative"}']
    assert told['adaserve_step_time_seconds_count{part="commit"}'] > 10
    assert (
        min(told[f'adaserve_hop_time_seconds_count{{hop="{hop}"}}'] for hop in ("draft", "select", "verify")) > 8
    )


def test_a_trace_tells_the_mode_of_each_iteration_and_every_switch(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = (f"00-{number:032x}-{number:016x}-01" for number in (1, 2))
    with collector() as otlp:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
        with configure("verifier", "test") as telemetry:
            ring = build(noise=0.3, telemetry=telemetry)
            ring.submit(request(1, **LONG), early)
            ring.turn(12)
            ring.order(Mode.FULL_VERIFICATION)
            ring.submit(request(2, **LONG), late)
            ring.turn(12)
    told: dict[str, set[tuple[str, str]]] = {}
    for span in otlp.spans:
        if signals.MODE in span.attributes:
            mode = (span.attributes[signals.MODE], span.attributes[signals.MODE_REASON])
            told.setdefault(f"{span.name} {span.trace_id[-1]}", set()).add(mode)
    barred = {("full_verification", "operator")}
    assert told[f"{signals.VERIFIER_ITERATION} 1"] == {
        ("speculative", ""),
        *barred,
    }  # the last frees the draft's KV
    assert told[f"{signals.VERIFIER_MODE_SWITCH} 1"] >= barred
    assert told[f"{signals.VERIFIER_PREFILL} 2"] == barred
