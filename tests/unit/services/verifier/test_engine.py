"""The engine in a whole ring of table models: whatever happens to the hints, outputs are plain decoding's."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from services.verifier import foresight, sampling
from services.verifier.departure import FINISH_MS, SETTLE_MS
from services.verifier.engine import DEATH_LOOK_MS
from services.verifier.gumbel import loud, winner
from services.verifier.ring import PLAIN_STEPS
from shared import codec
from shared.errors import BusUnavailable
from shared.heartbeat import Heartbeat
from shared.inference.plan import ForwardPlan
from shared.logprobs import pack
from shared.messages import Request, SelectedTrees
from shared.modes import Mode
from shared.telemetry import Telemetry
from shared.tokenizer import Tokenizer
from shared.topics import DRAFT, VERIFIER_GROUP
from tests.requests import request
from tests.ring import DRAFTER, GATEWAY, TableRing, check, plain
from tests.strategies import messages
from tests.table_model import TableRunner


def mixed(count: int, **changes: Any) -> list[Request]:
    return [
        request(
            number,
            prompt=[number % 12, *range(number % 11)],
            temperature=[0.0, 0.7, 1.0][number % 3],
            max_tokens=3 + 5 * (number % 4),
            tpot_ms=[float("inf"), 20.0, 2.0][number % 3],
            **changes,
        )
        for number in range(1, count + 1)
    ]


def test_a_batch_decodes_like_plain_decoding_and_really_speculates(build: Any) -> None:
    ring = build(noise=0.3)
    requests = mixed(8)
    for asked in requests:
        ring.submit(asked)
    check(ring, requests)
    stats = [delivery.stats for delivery in ring.delivered().values()]
    assert all(entry is not None for entry in stats)
    assert sum(entry["num_accepted_draft_tokens"] for entry in stats) > 20
    assert ring.runner.num_forwards < sum(len(plain(ring.model, asked)) for asked in requests)


def test_noise_is_found_while_trees_are_waited_for(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    used = []
    monkeypatch.setattr(foresight, "loud", lambda *draw: found.append(draw[:2]) or loud(*draw))
    monkeypatch.setattr(sampling, "winner", lambda *draw: used.append(draw[4] is not None) or winner(*draw))
    ring = build(noise=0.3)
    hear = ring.bus.hear

    def late(block_ms: float | None) -> Any:
        ring.bus.is_silent = block_ms is None
        return hear(block_ms)

    monkeypatch.setattr(ring.bus, "hear", late)
    asked = request(1, prompt=[1, 2], temperature=0.7, max_tokens=30)
    ring.submit(asked)
    assert ring.run()[asked.request].tokens == plain(ring.model, asked)
    assert len(found) > 10
    assert sum(used) > 5
    assert len(found) == len(set(found))  # none of them twice


@pytest.mark.parametrize("seed", range(8))
def test_all_parameters_at_random_decode_like_plain_decoding(build: Any, seed: int) -> None:
    dice = random.Random(seed)
    ring = build(noise=0.3, eos=frozenset({11}))
    requests = []
    for number in range(1, 9):
        ids = dice.sample(range(12), dice.choice([0, 0, 1, 3, 12]))
        asked = request(
            number,
            prompt=[dice.randrange(12) for _ in range(dice.randint(1, 12))],
            max_tokens=dice.randint(8, 40),
            min_tokens=dice.choice([0, 0, 8]),
            temperature=dice.choice([0.0, 0.6, 1.2]),
            top_k=dice.choice([0, 5]),
            top_p=dice.choice([1.0, 0.9]),
            min_p=dice.choice([0.0, 0.05]),
            presence_penalty=dice.choice([0.0, dice.uniform(-2, 2)]),
            frequency_penalty=dice.choice([0.0, dice.uniform(-0.5, 0.5)]),
            repetition_penalty=dice.choice([1.0, dice.uniform(0.5, 1.5)]),
            bias_ids=np.array(ids, np.int32),
            bias=np.array([dice.uniform(-5, 5) for _ in ids]),
            ignore_eos=dice.random() < 0.3,
            seed=dice.randrange(2**64),
        )
        requests.append(asked)
        ring.submit(asked)
    delivered = ring.run()
    for asked in requests:
        assert delivered[asked.request].tokens == plain(ring.model, asked, frozenset({11}))
    stats = [delivery.stats for delivery in delivered.values()]
    assert sum(entry["num_accepted_draft_tokens"] for entry in stats if entry) > 20


def test_adjusted_requests_neither_teach_nor_testify(build: Any) -> None:
    ring = build(noise=0.3)
    ring.submit(request(1, max_tokens=40, bias_ids=np.array([3], np.int32), bias=np.array([50.0])))
    seen: list[int] = []
    ring.engine._speculator.governor.watch.verified = lambda *told: seen.append(1)
    delivered = ring.run()
    assert delivered[request(1).request].stats["num_draft_tokens"] > 0
    ring.wait(2000)
    ring.turn()
    assert (seen, ring.client.keys("*calibration*")) == ([], [])


def test_where_drafting_does_not_pay_steps_do_not_wait_for_it_but_try_it_now_and_then(build: Any) -> None:
    ring = build(noise=0.3)
    ring.bus.tamper = lambda reply: dataclasses.replace(reply, depth=0)
    requests = [request(1, prompt=[1, 2, 3], max_tokens=3 * PLAIN_STEPS)]
    ring.submit(requests[0])
    check(ring, requests)
    before = ring.ring.num_steps
    assert 4 <= before <= 8  # of about 90 steps: after 4, 8, 16 and 32 more
    ring.bus.tamper = lambda reply: reply
    again = [request(2, prompt=[1, 2, 3], max_tokens=3 * PLAIN_STEPS)]
    ring.submit(again[0])
    check(ring, again)
    assert ring.ring.num_steps > before + 8  # asked at every step again, for several tokens a step


@pytest.mark.parametrize("seed", range(25))
def test_whatever_becomes_of_the_hints_the_tokens_are_the_same(build: Any, seed: int) -> None:
    chance = random.Random(seed)
    ring = build(
        noise=chance.choice([0.0, 0.5, 5.0]),
        num_blocks=chance.choice([12, 64]),
        draft_blocks=chance.choice([4, 64]),
        max_running=chance.randint(1, 6),
    )
    kept: list[SelectedTrees] = []

    def tamper(reply: SelectedTrees) -> SelectedTrees | None:
        kept.append(reply)
        fate = chance.choice(["as it is", "as it is", "lost", "an old one", "other tokens", "another row's"])
        if fate == "lost":
            return None
        if fate == "an old one":
            return dataclasses.replace(kept[0], step=reply.step)
        if fate == "other tokens":
            return dataclasses.replace(reply, tokens=(reply.tokens + 1) % 14)
        if fate == "another row's" and len(reply.request):
            return dataclasses.replace(reply, request=np.roll(reply.request, 1), epoch=np.roll(reply.epoch, 1))
        return reply

    ring.bus.tamper = tamper
    requests = mixed(chance.randint(1, 7))
    for asked in requests:
        ring.submit(asked)
        ring.turn(chance.randint(0, 3))
        ring.bus.is_silent = chance.random() < 0.3
        ring.wait(chance.choice([0.0, 300.0, 2000.0]))
    check(ring, requests)


def test_small_pools_preempt_and_recompute(build: Any) -> None:
    ring = build(num_blocks=8, max_running=6)
    requests = [request(number, prompt=[number] * 6, max_tokens=18) for number in range(1, 6)]
    for asked in requests:
        ring.submit(asked)
    check(ring, requests)
    assert ring.scheduler.num_preempted > 0


def test_stale_copies_behind_the_awaited_reply_change_nothing(build: Any) -> None:
    ring = build(noise=0.2)
    asked = request(1, max_tokens=60)
    ring.submit(asked)
    ring.turn(3)
    stale = ring.client.xrange(ring.bus.verify_stream)[0][1]
    ring.bus.before_hearing = lambda: ring.client.xadd(ring.bus.verify_stream, stale)
    delivery = ring.run()[asked.request]
    assert delivery.tokens == plain(ring.model, asked)
    assert not ring.ring.is_open
    assert delivery.stats is not None
    assert delivery.stats["num_spec_steps"] >= delivery.stats["num_steps"] - 3


def test_a_selector_that_grants_no_prefill_stops_no_prompt(build: Any) -> None:
    ring = build(prefill_chunk=100)
    ring.bus.tamper = lambda reply: dataclasses.replace(reply, prefill_tokens=0)
    requests = [request(1, max_tokens=100), request(2, prompt=[5] * 60)]
    for asked in requests:
        ring.submit(asked)
        ring.turn(4)
    check(ring, requests)


@given(reply=messages(SelectedTrees))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_well_formed_reply_breaks_the_engine(reply: SelectedTrees, seasoned: TableRing) -> None:
    seasoned.client.xadd(seasoned.bus.verify_stream, {"body": codec.encode(reply)})
    close = dataclasses.replace(reply, ring=0, drafter="drafter.1", step=seasoned.ring.num_steps)
    seasoned.client.xadd(seasoned.bus.verify_stream, {"body": codec.encode(close)})
    seasoned.turn(2)
    assert len(seasoned.scheduler.generations) == 1


@pytest.fixture
def seasoned(build: Any) -> TableRing:
    """A ring in the middle of one long request."""
    ring: TableRing = build(num_blocks=2000)
    ring.submit(request(1, max_tokens=5000))
    ring.turn(5)
    return ring


def test_without_drafter_it_decodes_bare(build: Any) -> None:
    ring = build()
    ring.bus.is_silent = True
    requests = mixed(3)
    for asked in requests:
        ring.submit(asked)
    check_tokens = ring.run()
    assert ring.ring.is_open
    for asked in requests:
        assert check_tokens[asked.request].tokens == plain(ring.model, asked)


def test_speculation_resumes_when_answers_come_again(build: Any) -> None:
    ring = build(noise=0.2)
    ring.bus.is_silent = True
    asked = request(1, max_tokens=200, prompt=[1])
    ring.submit(asked)
    ring.turn(10)
    assert ring.ring.is_open
    ring.bus.is_silent = False
    ring.wait(1000.0)
    delivered = ring.run()
    assert not ring.ring.is_open
    stats = delivered[asked.request].stats
    assert stats is not None
    assert stats["num_accepted_draft_tokens"] > 10


def test_speculation_switched_off_by_the_client_verifies_no_node(build: Any) -> None:
    ring = build(noise=0.0)
    requests = [request(1, speculation=False), request(2)]
    for asked in requests:
        ring.submit(asked)
    delivered = ring.run()
    off, on = (delivered[asked.request].stats for asked in requests)
    assert off is not None
    assert on is not None
    assert (off["num_draft_tokens"], off["num_steps"]) == (0, 8)
    assert on["num_accepted_draft_tokens"] > 0


def test_end_tokens_inside_an_accepted_path_end_the_request(build: Any) -> None:
    ring = build(noise=0.0, eos=frozenset({3, 4, 5}))
    requests = [request(number, prompt=[number], max_tokens=60, min_tokens=number % 4) for number in range(1, 8)]
    for asked in requests:
        ring.submit(asked)
    delivered = ring.run()
    for asked in requests:
        expected = plain(ring.model, asked, frozenset({3, 4, 5}))
        assert delivered[asked.request].tokens == expected
        assert delivered[asked.request].finish == ("stop" if expected[-1] in (3, 4, 5) else "length")
    assert any(len(delivered[asked.request].tokens) > 1 for asked in requests)


def test_stop_strings_cut_the_text_and_commit_no_token_after_them(build: Any, tokenizer: Tokenizer) -> None:
    ring = build(vocab_size=tokenizer.vocab_size, noise=0.0)
    asked = request(1, prompt=[5, 6], max_tokens=40, temperature=1.0, stop=("e",))
    ring.submit(asked)
    delivery = ring.run()[asked.request]
    full = plain(ring.model, asked)
    text = tokenizer.decode(delivery.tokens)
    assert delivery.tokens == full[: len(delivery.tokens)]
    assert (delivery.finish == "stop") == ("e" in tokenizer.decode(full))
    if delivery.finish == "stop":
        assert delivery.text_length == text.index("e")
        assert "e" not in tokenizer.decode(delivery.tokens[:-1])


def test_a_cancelled_request_frees_its_kv_and_leaves_the_others_alone(build: Any) -> None:
    ring = build()
    gone, stays = request(1, max_tokens=200), request(2)
    ring.submit(gone)
    ring.submit(stays)
    ring.turn(5)
    ring.cancel(gone.request)
    delivered = ring.run()
    assert delivered[gone.request].finish == "cancelled"
    assert delivered[stays.request].tokens == plain(ring.model, stays)
    assert ring.pool.num_free == ring.pool.num_blocks


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bias_ids": np.array([12], np.int32), "bias": np.zeros(1)}, "bias_ids"),
        ({"prompt": [99]}, "id that is not in 0..11"),
        ({"max_tokens": 100_000}, "exceed"),
        ({"prompt": []}, "empty"),
    ],
)
def test_impossible_work_ends_with_its_reason(build: Any, changes: dict[str, Any], reason: str) -> None:
    ring = build()
    bad, good = request(1, **changes), request(2)
    ring.submit(bad)
    ring.submit(good)
    delivered = ring.run()
    assert delivered[bad.request].finish == "error"
    assert reason in (delivered[bad.request].error or "")
    assert delivered[good.request].tokens == plain(ring.model, good)
    ((_, letter),) = ring.client.xrange(ring.keys.dead)
    assert reason in letter[b"reason"].decode()


def test_what_nobody_waits_for_any_more_costs_no_forward_pass(build: Any) -> None:
    ring = build()
    late, timely = request(1), request(2)
    ring.submit(late, budget_ms=0.0)
    ring.turn(2)
    assert ring.engine.num_steps == 0
    ring.submit(timely, budget_ms=60_000.0)
    delivered = ring.run()
    assert (delivered[late.request].finish, delivered[late.request].tokens) == ("expired", [])
    assert delivered[timely.request].tokens == plain(ring.model, timely)
    assert ring.client.xlen(ring.keys.dead) == 0


def test_an_unreadable_body_is_a_dead_letter(build: Any) -> None:
    ring = build()
    asked = request(1)
    ring.submit(asked)
    ring.client.hset(ring.keys.request(asked.request), "body", b"\x81\xa1v\x63")
    assert ring.run()[asked.request].finish == "error"
    assert ring.client.xlen(ring.keys.dead) == 1


def test_redis_forgetting_everything_between_steps_is_repaired(build: Any) -> None:
    ring = build()
    asked = request(1, max_tokens=30)
    ring.submit(asked)
    hash_key, journal = ring.keys.request(asked.request), ring.keys.journal(asked.request)
    ring.client.hset(hash_key, "spent_ms", "12.500")
    ring.turn(6)
    done = len(ring.scheduler.running[0].tokens) - 3
    assert 0 < done < 30
    kept = ("enqueued_ms", "first_token_ms", "spent_ms")
    times = ring.client.hmget(hash_key, *kept)
    ring.client.delete(hash_key, journal)
    ring.run()
    assert ring.client.hmget(hash_key, *kept) == times
    entries = ring.client.xrange(journal)
    tokens = [token for _, fields in entries for token in np.frombuffer(fields[b"tokens"], "<u4").tolist()]
    assert tokens == plain(ring.model, asked)
    assert ring.client.hget(hash_key, "status") == b"finished"


def test_a_dead_verifiers_requests_go_on_where_the_journal_ends(build: Any) -> None:
    ring = build()
    asked = request(1, max_tokens=40, temperature=0.9, stop=("never there",))
    ring.submit(asked)
    ring.turn(8)
    hash_key = ring.keys.request(asked.request)
    ring.client.hset(hash_key, "owner", "verifier.dead")
    ring.client.smove(ring.keys.owned("verifier.1"), ring.keys.owned("verifier.dead"), asked.request)
    ring.client.sadd(ring.keys.members("verifier"), "verifier.dead")
    for generation in ring.scheduler.generations:
        ring.scheduler.remove(generation)
    ring.wait(DEATH_LOOK_MS)
    ring.turn(1)
    assert len(ring.scheduler.generations) == 1
    ring.run()
    tokens: list[int] = []
    for _, fields in ring.client.xrange(ring.keys.journal(asked.request)):
        tokens += np.frombuffer(fields[b"tokens"], "<u4").tolist()
    assert tokens == plain(ring.model, asked)


def test_an_entry_taken_from_a_dead_verifier_is_claimed_though_the_reply_was_lost(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = build()
    asked = request(1)
    ring.submit(asked)
    ring.client.xreadgroup(VERIFIER_GROUP, "verifier.dead", {ring.keys.requests(0): ">"})
    reclaim = ring.bus._work.reclaim

    def lose_the_reply(live: Any) -> None:
        reclaim(live)
        raise BusUnavailable("not answered")

    with monkeypatch.context() as patch:
        patch.setattr(ring.bus._work, "reclaim", lose_the_reply)
        ring.wait(1000.0)
        with pytest.raises(BusUnavailable):
            ring.turn()
    assert ring.run()[asked.request].tokens == plain(ring.model, asked)


def demanding(number: int = 1) -> Request:
    """Everything that has to be built again at a take-over."""
    return request(
        number,
        max_tokens=40,
        temperature=0.9,
        frequency_penalty=0.4,
        presence_penalty=0.3,
        repetition_penalty=1.3,
        bias_ids=np.array([2, 7], np.int32),
        bias=np.array([1.5, -1.5]),
        logprobs=3,
    )


def journal_of(ring: TableRing, asked: Request) -> tuple[list[int], bytes]:
    entries = [fields for _, fields in ring.client.xrange(ring.keys.journal(asked.request))]
    tokens = [token for fields in entries for token in np.frombuffer(fields[b"tokens"], "<u4").tolist()]
    return tokens, b"".join(fields[b"logprobs"] for fields in entries)


def expected_of(ring: TableRing, asked: Request) -> tuple[list[int], bytes]:
    """Plain decoding's tokens, and the log-probabilities of the model's own logits."""
    tokens = plain(ring.model, asked)
    rows = [ring.model.logits([*asked.prompt.tolist(), *tokens[:count]]) for count in range(len(tokens))]
    return tokens, pack(np.array(rows), tokens, 3)


def test_log_probabilities_are_the_models_own_and_travel_with_the_tokens(build: Any) -> None:
    ring = build(noise=0.3)
    requests = [demanding(1), dataclasses.replace(demanding(2), speculation=False), request(3)]
    for asked in requests:
        ring.submit(asked)
    delivered = ring.run()
    for asked in requests[:2]:
        expected = expected_of(ring, asked)
        assert journal_of(ring, asked) == expected
        assert (delivered[asked.request].tokens, delivered[asked.request].logprobs) == expected
    assert delivered[requests[2].request].logprobs == b""
    assert not any(b"logprobs" in f for _, f in ring.client.xrange(ring.keys.journal(requests[2].request)))


@pytest.mark.parametrize("fault", ["verifier dies", "hash lost", "journal lost"])
def test_penalties_and_log_probabilities_survive_what_tokens_survive(build: Any, fault: str) -> None:
    ring = build(noise=0.3)
    asked = demanding()
    ring.submit(asked)
    ring.turn(8)
    assert 0 < ring.scheduler.running[0].num_output < 40
    hash_key, journal = ring.keys.request(asked.request), ring.keys.journal(asked.request)
    if fault == "verifier dies":
        ring.client.hset(hash_key, "owner", "verifier.dead")
        ring.client.smove(ring.keys.owned("verifier.1"), ring.keys.owned("verifier.dead"), asked.request)
        ring.client.sadd(ring.keys.members("verifier"), "verifier.dead")
        for generation in ring.scheduler.generations:
            ring.scheduler.remove(generation)
        ring.wait(1000.0)
        ring.turn(1)
    else:
        ring.client.delete(journal, *([hash_key] if fault == "hash lost" else []))
        if fault == "journal lost":
            ring.client.hset(hash_key, "position", len(asked.prompt))
    ring.run()
    assert journal_of(ring, asked) == expected_of(ring, asked)


def test_a_journal_without_the_log_probabilities_it_needs_is_a_dead_letter(build: Any) -> None:
    ring = build()
    asked = demanding()
    ring.submit(asked)
    ring.turn(8)
    ring.engine._give_back(ring.scheduler.generations)
    journal = ring.keys.journal(asked.request)
    (first, fields), *rest = ring.client.xrange(journal)
    ring.client.delete(journal)
    for entry, kept in [(first, {b"tokens": fields[b"tokens"]}), *rest]:
        ring.client.xadd(journal, kept, id=entry)
    ring.turn(3)
    assert not ring.scheduler.generations
    ((_, letter),) = ring.client.xrange(ring.keys.dead)
    assert b"journal" in letter[b"reason"]


def test_a_claim_whose_reply_was_lost_is_found_again(build: Any) -> None:
    ring = build()
    asked = request(1)
    ring.submit(asked)
    assert len(ring.bus.take(1)) == 1  # claimed, and nobody knows of it
    ring.turn(3)
    assert ring.run()[asked.request].tokens == plain(ring.model, asked)


def test_a_request_that_was_restored_and_claimed_again_is_served_once(build: Any) -> None:
    """A gateway restores what Redis forgot while this verifier still feeds the prompt."""
    ring = build(prefill_chunk=2)
    asked = request(1, prompt=[1, 2, 3, 4, 5, 6, 7, 8])
    ring.submit(asked)
    ring.turn(2)
    (older,) = ring.scheduler.generations
    assert older.num_output == 0
    ring.client.delete(ring.keys.request(asked.request), ring.keys.owned("verifier.1"))
    ring.submit(asked)
    ring.turn(1)
    (newer,) = ring.scheduler.generations
    assert newer.epoch != older.epoch
    check(ring, [asked])


def test_a_fenced_verifier_drops_the_request_and_sends_nothing(build: Any) -> None:
    ring = build()
    asked = request(1, max_tokens=40)
    ring.submit(asked)
    ring.turn(6)
    before = ring.client.xlen(ring.keys.tokens(GATEWAY))
    ring.client.hset(ring.keys.request(asked.request), mapping={"owner": "verifier.2", "epoch": "00ff"})
    ring.turn(4)
    assert ring.scheduler.generations == []
    assert ring.client.xlen(ring.keys.tokens(GATEWAY)) == before


def test_draining_gives_everything_back(build: Any) -> None:
    ring = build()
    asked = request(1, max_tokens=40)
    ring.submit(asked)
    ring.turn(5)
    ring.engine.drain(lambda: True)
    assert ring.scheduler.generations == []
    assert ring.client.xlen(ring.keys.released) == 1


def released(ring: TableRing) -> list[str]:
    return [fields[b"body"].decode() for _, fields in ring.client.xrange(ring.keys.released)]


def test_a_draining_verifier_keeps_what_ends_soon_and_gives_the_rest_to_another(build: Any) -> None:
    ring = build(num_blocks=2000)
    short, long, late = request(1, max_tokens=60), request(2, max_tokens=4000), request(3)
    ring.submit(short)
    ring.submit(long)
    ring.turn(12)
    ring.client.set(ring.keys.heartbeat("verifier", "verifier.2"), msgpack.packb({"ready": True}))
    ring.client.sadd(ring.keys.members("verifier"), "verifier.2")
    ring.submit(late)
    ring.engine.drain(lambda: False)
    assert released(ring) == [long.request]
    assert ring.delivered()[short.request].tokens == plain(ring.model, short)
    assert ring.client.xlen(ring.keys.requests(late.tier)) == 1


@pytest.mark.parametrize("others", [{}, {"verifier.2": {"ready": False}}, {"verifier.2": {"load": 1.0}}])
def test_a_draining_verifier_serves_on_where_nobody_takes_over(build: Any, others: dict[str, Any]) -> None:
    ring = build(num_blocks=2000)
    asked = request(1, max_tokens=500)
    ring.submit(asked)
    ring.turn(12)
    for name, about in others.items():
        ring.client.set(ring.keys.heartbeat("verifier", name), msgpack.packb(about))
        ring.client.sadd(ring.keys.members("verifier"), name)
    started = ring.time_ms
    ring.engine.drain(lambda: False)
    assert ring.time_ms > started + SETTLE_MS + FINISH_MS  # long enough to be given back
    assert released(ring) == []
    assert ring.delivered()[asked.request].tokens == plain(ring.model, asked)


def test_a_drafter_that_leaves_is_replaced_in_the_same_turn(build: Any, redis_url: str) -> None:
    ring = build()
    ring.submit(request(1, max_tokens=200))
    ring.turn(6)
    assert ring.engine.stance.status.mode is Mode.SPECULATIVE
    leaving = Heartbeat(redis_url, ring.keys, "drafter", DRAFTER, dict)
    leaving.stop()
    ring.turn(1)
    assert ring.engine._speculator.status.reason == "no_drafter"


def test_unreadable_hints_are_counted_and_dropped(build: Any, telemetry: Telemetry) -> None:
    ring = build()
    asked = request(1)
    ring.submit(asked)
    ring.client.xadd(ring.bus.verify_stream, {"body": b"noise"})
    ring.client.xadd(ring.keys.control, {"body": b"noise"})
    ring.client.xadd(ring.keys.draft("drafter.1"), {"body": b"noise"})
    ring.client.xadd(ring.keys.select, {"body": b"noise"})
    assert ring.run()[asked.request].tokens == plain(ring.model, asked)
    assert b'adaserve_hints_dropped_total{reason="unreadable"}' in telemetry.prometheus()


def test_a_slower_machine_becomes_a_new_profile_that_the_next_request_names(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = build(num_blocks=2000)
    measured = ring.engine.timing.profile
    forward = TableRunner.logits

    def slow(runner: TableRunner, plan: ForwardPlan) -> Any:
        ring.wait(30.0 if runner is ring.runner else 0.0)
        return forward(runner, plan)

    monkeypatch.setattr(TableRunner, "logits", slow)
    ring.submit(request(1, max_tokens=5000))
    ring.turn(60)
    ring.wait(1000.0)
    ring.turn(4)
    assert ring.engine.timing.profile.version != measured.version
    context = len(ring.scheduler.running[0].tokens)
    predicted = ring.engine.timing.profile.predict_ms(8, context_tokens=context, rows=1)
    assert predicted == pytest.approx(31.0, rel=0.1)
    for model in (measured, ring.engine.timing.profile):
        assert ring.client.get(ring.keys.profile("verifier.1", model.version)) == model.to_bytes()
    _, newest = ring.client.xrevrange(ring.keys.draft("drafter.1"), count=1)[0]
    asked = DRAFT.decode(newest[b"body"])
    assert asked.profile == ring.engine.timing.profile.version
    assert 0.0 < asked.overhead_ms < 30.0  # the clock moves with every reading


def test_the_error_of_each_prediction_is_told(build: Any, telemetry: Telemetry) -> None:
    ring = build()
    ring.submit(request(1))
    ring.run()
    assert b"adaserve_prediction_error_count" in telemetry.prometheus()


def test_the_journal_equals_what_was_delivered(build: Any) -> None:
    ring = build()
    asked = request(1, max_tokens=25, temperature=1.0)
    ring.submit(asked)
    delivery = ring.run()[asked.request]
    entries = ring.client.xrange(ring.keys.journal(asked.request))
    journal = b"".join(fields[b"tokens"] for _, fields in entries)
    assert np.frombuffer(journal, "<u4").tolist() == delivery.tokens
    assert codec.decode(Request, ring.client.hget(ring.keys.request(asked.request), "body")).seed == 1
