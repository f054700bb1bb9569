"""A whole ring of table models tells of inspected requests what happened, and of itself what it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.gateway.iterations import joined
from services.verifier.governor import Status
from services.verifier.live import WINDOW_S, Recent, Standing, slack_ms, snapshot
from services.verifier.scheduler import Scheduler
from shared import codec
from shared.door_scripts import open_inspected
from shared.functions import call
from shared.inference.blocks import BlockPool
from shared.inspect_store import entries, read, read_live
from shared.inspection import MAX_LIVE, InspectedTree
from shared.messages import Request, SelectedTrees, TokenEvent
from shared.modes import Mode
from shared.streams import parse_streams
from tests.requests import generation, request
from tests.ring import GATEWAY, VERIFIER, TableRing, plain


def submit(ring: TableRing, asked: Request) -> None:
    """As a gateway does."""
    if asked.inspect:
        names = [asked.request]
        call(ring.client, open_inspected(ring.keys, tenant=asked.tenant, requests=names, limit=8))
    ring.submit(asked)


def told(ring: TableRing, number: int) -> list[tuple[str, Any]]:
    return entries(ring.client.execute_command(*read(ring.keys, f"{number:032x}", None)))


def iterations(ring: TableRing, number: int) -> list[dict[str, Any]]:
    return joined(told(ring, number), str)[0]


def events(ring: TableRing, number: int) -> list[TokenEvent]:
    stream = ring.keys.tokens(GATEWAY)
    found = parse_streams(ring.client.xread({stream: "0-0"})).get(stream, [])
    decoded = [codec.decode(TokenEvent, entry.body) for entry in found]
    return [event for event in decoded if event.request == f"{number:032x}"]


def tokens_of(found: list[dict[str, Any]]) -> list[int]:
    tokens = []
    for one in found:
        tokens += [node["token"] for node in one["nodes"] if node["accepted"]]
        tokens += [one["own"]["token"]] if one["own"] else []
    return tokens


def test_the_iterations_are_the_answer_token_by_token(build: Any) -> None:
    ring = build(noise=0.3)
    asked = [
        request(number, prompt=range(3 * number), max_tokens=20, tpot_ms=2.0, inspect=number < 3, temperature=0.7)
        for number in range(1, 4)
    ]
    for one in asked:
        submit(ring, one)
    delivered = ring.run()
    assert not told(ring, 3)
    for number, one in enumerate(asked[:2], start=1):
        expected = plain(ring.model, one)
        found = iterations(ring, number)
        assert tokens_of(found) == expected == delivered[one.request].tokens
        assert [one["position"] for one in found] == [event.start for event in events(ring, number)]
        accepted = [sum(node["accepted"] for node in one["nodes"]) for one in found]
        assert accepted == [event.drafted for event in events(ring, number)]
        assert sum(accepted) == (delivered[one.request].stats or {})["num_accepted_draft_tokens"] > 0
        assert all(node["phase"] for one in found for node in one["nodes"] if node["accepted"])
        assert {one["mode"] for one in found[1:]} == {"speculative"}
        assert all(one["verify_ms"] > 0 and one["tpot_target_ms"] == 2.0 for one in found)
        assert found[0]["tpot_ms"] is None
        assert found[-1]["tpot_ms"] > 0
    assert all(event.drafted is None for event in events(ring, 3))


def test_iterations_without_trees_are_told_too(build: Any) -> None:
    ring = build()
    ring.order(Mode.FULL_VERIFICATION)
    asked = request(1, inspect=True)
    submit(ring, asked)
    ring.run()
    found = iterations(ring, 1)
    assert tokens_of(found) == plain(ring.model, asked)
    assert all(one["own"] and not one["nodes"] for one in found)
    assert {one["mode"] for one in found} == {"full_verification"}


def test_a_reply_that_lies_about_its_trees_is_told_as_it_was(build: Any) -> None:
    """The selector's half may be missing or of another tree: the verifier's own half tells the tokens."""
    ring = build(noise=0.3)
    asked = request(1, max_tokens=24, inspect=True)
    submit(ring, asked)
    ring.run()
    halves = [(name, half) for name, half in told(ring, 1) if not isinstance(half, InspectedTree)]
    assert tokens_of(joined(halves, str)[0]) == plain(ring.model, asked)


def test_a_stream_that_cannot_be_written_costs_no_token(build: Any) -> None:
    ring = build(noise=0.3)
    asked = request(1, inspect=True)
    ring.client.set(ring.keys.inspect(asked.request), "no stream")
    ring.submit(asked)
    delivered = ring.run()[asked.request]
    assert delivered.tokens == plain(ring.model, asked)
    assert (delivered.stats or {})["num_accepted_draft_tokens"] > 0


def test_a_verifier_tells_what_it_does_while_somebody_looks(build: Any) -> None:
    ring = build(noise=0.3)
    ring.submit(request(1, max_tokens=200, tpot_ms=50.0))
    ring.turn(10)
    assert ring.client.get(ring.keys.live(VERIFIER)) is None
    ring.client.set(ring.keys.watched, 1)
    ring.wait(1000.0)
    ring.turn(2)
    live = read_live(ring.client.get(ring.keys.live(VERIFIER)))
    assert 0 < ring.client.ttl(ring.keys.live(VERIFIER)) <= 5
    assert (live.running, live.waiting, live.prefilling) == (1, 0, 0)
    assert live.selected == live.slo_nodes + live.throughput_nodes > 0
    assert live.accepted == live.realised_accepted == live.accepted_at.sum() > 0
    assert live.steps_per_s > 0
    assert live.tokens_per_s > 0
    assert live.kv_used > 0
    [one] = ring.scheduler.generations
    assert 0 < live.output_tokens[0] < one.num_output
    assert np.isfinite(live.slack_ms).all()


def standing(redis_ms: float = 0.0) -> Standing:
    return Standing(
        status=Status(Mode.SPECULATIVE), since_ms=-1.0, drafter=None, calibration_error=None, redis_ms=redis_ms
    )


def test_slack_is_the_time_until_the_next_token_is_late() -> None:
    one = generation(BlockPool(8), tpot_ms=50.0, ttft_ms=1000.0)
    one.enqueued_ms = 100.0
    assert slack_ms(one, 400.0) == 700.0
    one.first_token_ms = 500.0
    one.extend([7])
    assert slack_ms(one, 500.0) == 50.0
    one.extend([7, 7])
    assert slack_ms(one, 700.0) == -50.0
    assert slack_ms(generation(BlockPool(8)), 1e9) == float("inf")


def test_of_many_requests_the_least_slack_is_told_and_only_so_many() -> None:
    pool = BlockPool(8)
    scheduler: Any = Scheduler(pool, max_running=1, prefill_chunk=8)
    for number in range(MAX_LIVE + 20):
        scheduler.add(generation(pool, number + 1, ttft_ms=1000.0 - number))
    live = snapshot(scheduler, Recent(), standing(), 5.0)
    assert live.slack_ms.tolist() == sorted(1000.0 - number for number in range(MAX_LIVE + 20))[:MAX_LIVE]
    assert (live.waiting, live.state.max(), live.mode_since_ms) == (MAX_LIVE + 20, 0, 0.0)
    assert np.isinf(live.tpot_ms).all()


def test_what_is_older_than_the_window_does_not_count() -> None:
    recent = Recent()
    for second in range(3 * WINDOW_S):
        recent.stepped(1000.0 * second, selected=3, accepted=1, taken=None)
        recent.committed(2)
    sums, window_s = recent.sums(1000.0 * (3 * WINDOW_S - 1))
    assert (sums.num_steps, sums.num_tokens, sums.selected, window_s) == (
        WINDOW_S,
        2 * WINDOW_S,
        3 * WINDOW_S,
        10.0,
    )
    sums, _ = recent.sums(1e9)
    assert sums.num_steps == 0


@pytest.mark.parametrize(("age_ms", "window_s"), [(0.0, 1.0), (4000.0, 4.0), (1e6, 10.0)])
def test_a_young_verifier_has_a_short_window(age_ms: float, window_s: float) -> None:
    recent = Recent()
    assert recent.sums(5.0)[1] == WINDOW_S
    recent.stepped(5.0, selected=0, accepted=0, taken=None)
    assert recent.sums(5.0 + age_ms)[1] == window_s


def test_sums_of_lying_hints_still_fit() -> None:
    recent, most = Recent(), 2**31 - 1
    taken: Any = SelectedTrees.__new__(SelectedTrees)
    object.__setattr__(taken, "budget_used", most)
    object.__setattr__(taken, "phase", np.zeros(3, np.uint8))
    for _ in range(3):
        recent.stepped(5.0, selected=3, accepted=0, taken=taken)
    live = snapshot(Scheduler(BlockPool(8), max_running=1, prefill_chunk=8), recent, standing(), 5.0)
    assert (live.budget_used, live.slo_nodes) == (3 * most, 9)
