"""Passes padded to fixed shapes and replayed say and write what launched ones do."""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.inference import tiled_forward
from shared.inference.blocks import BlockPool
from shared.inference.buckets import FEWEST_KEYS, MOST_SCORES, Buckets, step
from shared.inference.plan import ForwardPlan, PlanRow, build_plan, chain_row
from shared.inference.profile import TOKENS, sweep
from shared.inference.recording import Kept, Recorder
from shared.inference.runner import ModelRunner
from shared.inference.tiled import TiledPass, unpacked
from shared.inference.tiles import Shape, Tiling
from tests.unit.shared.inference.test_tiled import PlainInPlace
from tests.unit.shared.inference.tiny_models import VOCAB, new_runner, relative_difference, stock_model
from tests.unit.shared.inference.token_trees import trees

WINDOWED = "mistral-window"


@st.composite
def plans(draw: st.DrawFn, num_slots: int = 512) -> ForwardPlan:
    """Rows of chunks and trees, some nodes of them written, over contexts in one piece."""
    rows, part = [], num_slots // 4
    for index in range(draw(st.integers(1, 4))):
        nodes = draw(trees(max_nodes=12))
        context, size = draw(st.integers(0, 60)), len(nodes.tokens)
        written = draw(st.integers(0, size - 1))
        slots = np.arange(part * index, part * index + context + size, dtype=np.int32)
        wanted = np.arange(written, size) if draw(st.booleans()) else np.zeros(0, np.int32)
        rows.append(
            PlanRow(
                context=slots[:context],
                tokens=nodes.tokens,
                parents=nodes.parents,
                slots=slots[context:],
                logits=wanted,
                written=written,
            )
        )
    return build_plan(rows)


def runner_of(family: str = "llama", **options: object) -> ModelRunner:
    """With random KV already in its pool, the same for all."""
    runner = ModelRunner(copy.deepcopy(stock_model(family, torch.float64)), 512, tiled=True, **options)  # type: ignore[arg-type]
    runner.cache.data[:, :, :512] = torch.randn(
        runner.cache.data[:, :, :512].shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    return runner


@pytest.mark.parametrize("way", ["gathered", "in place"])
@pytest.mark.parametrize("family", ["llama", WINDOWED])
def test_padding_changes_neither_logits_nor_kv(family: str, way: str) -> None:
    @settings(deadline=None, max_examples=25)
    @given(plans(), st.data())
    def check(plan: ForwardPlan, data: st.DataObject) -> None:
        kernel = PlainInPlace() if way == "in place" and family != WINDOWED else None
        exact, padded = runner_of(family), runner_of(family)
        expected = exact.forward(plan)
        tiling = Tiling(plan, in_place=kernel is not None, fewest_queries=data.draw(st.sampled_from([1, 8, 32])))
        least = tiling.shape
        more = st.integers(0, 9)
        shape = Shape(
            tokens=least.tokens + data.draw(more),
            tiles=least.tiles + data.draw(more),
            queries=least.queries,
            keys=least.keys + (32 * data.draw(more) if kernel is None else 0),
            nodes=least.nodes + 32 * data.draw(st.integers(0, 2)),
            logits=least.logits + data.draw(more) if least.logits else 0,
            ranges=least.ranges + data.draw(more) if least.ranges else 0,
        )
        array = torch.from_numpy(tiling.pack(shape, spare_slot=512))
        with torch.inference_mode():
            rows = TiledPass(
                shape, unpacked(shape, array), torch.float64, last_position=255, in_place=kernel, max_keys=255
            )
            actual = padded._decoder.forward(rows.token_ids, rows.positions, rows, padded.cache)
        torch.testing.assert_close(actual[: len(plan.logit_rows)], expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            padded.cache.data[:, :, :512], exact.cache.data[:, :, :512], rtol=1e-9, atol=1e-9
        )
        assert padded.cache.data.isfinite().all()

    check()


@pytest.mark.parametrize("way", ["gathered", "in place"])
@pytest.mark.parametrize("family", ["llama", WINDOWED])
def test_replayed_passes_equal_launched_ones_whatever_ran_before(family: str, way: str) -> None:
    launched = runner_of(family)
    replayed = runner_of(family, recorded=True, in_place=PlainInPlace() if way == "in place" else None)

    @settings(deadline=None, max_examples=40)
    @given(plans())
    def check(plan: ForwardPlan) -> None:
        for _ in range(2):  # the second time it is recorded, if it was not
            assert relative_difference(replayed.logits(plan), launched.logits(plan)) <= 1e-9
        torch.testing.assert_close(
            replayed.cache.data[:, :, :512], launched.cache.data[:, :, :512], rtol=1e-9, atol=1e-9
        )

    check()
    assert replayed._tiled is not None
    assert replayed._tiled.num_recorded > 1


def chain(num_tokens: int, *, context: int = 0) -> ForwardPlan:
    slots = np.arange(context + num_tokens, dtype=np.int32)
    tokens = np.arange(num_tokens, dtype=np.int32) % VOCAB
    return build_plan([chain_row(slots[:context], tokens, slots[context:], last_logits=True)])


def test_what_is_larger_than_every_bucket_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled_forward, "MAX_RECORDED_TOKENS", 8)
    runner, other = runner_of(recorded=True), runner_of()
    assert runner._tiled is not None
    for size, expected in ((9, 0), (8, 1), (7, 1)):
        for _ in range(3):
            assert relative_difference(runner.logits(chain(size)), other.logits(chain(size))) <= 1e-9
        assert runner._tiled.num_recorded == expected


def test_no_more_is_kept_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled_forward, "MAX_RECORDED", 2)
    runner, other = runner_of(recorded=True), runner_of()
    assert runner._tiled is not None
    for size in (1, 2, 4, 1, 2, 4, 1, 4, 2):
        assert relative_difference(runner.logits(chain(size)), other.logits(chain(size))) <= 1e-9
    assert runner._tiled.num_recorded == 2


def test_the_sweep_at_the_start_has_its_passes_replayed() -> None:
    runner = ModelRunner(copy.deepcopy(stock_model("llama", torch.float32)), 4800, tiled=True, recorded=True)
    samples = sweep(runner.logits, BlockPool(300), context_limit=256, clock=time.perf_counter)
    assert runner._tiled is not None
    assert len(TOKENS) - 4 <= runner._tiled.num_recorded < tiled_forward.MAX_RECORDED
    assert {sample.tokens for sample in samples} >= set(TOKENS)


def test_ranks_and_cpus_record_nothing_by_themselves() -> None:
    assert new_runner()._tiled is None
    tiled = runner_of()
    for _ in range(3):
        tiled.logits(chain(2))
    assert tiled._tiled is not None
    assert tiled._tiled.num_recorded == 0


def test_a_replay_reads_what_its_inputs_are_then_and_overwrites_its_result() -> None:
    given_, recorder = torch.tensor([1.0, 2.0]), Recorder(torch.device("cpu"))
    replay = recorder.record(lambda: given_ * 2)
    first = replay()
    assert first.tolist() == [2.0, 4.0]
    given_.copy_(torch.tensor([5.0, 6.0]))
    assert replay() is first
    assert first.tolist() == [10.0, 12.0]


def test_what_comes_twice_is_kept_until_others_were_used_more_lately() -> None:
    kept, made = Kept[str](2), []

    def get(key: str) -> str | None:
        return kept.get(key, lambda: made.append(key) or key)  # type: ignore[func-returns-value]

    assert [get(key) for key in "aabb"] == [None, "a", None, "b"]
    assert [get(key) for key in "acc"] == ["a", None, "c"]  # b is the one to go
    assert len(kept) == 2
    assert [get(key) for key in "acbb"] == ["a", "c", None, "b"]
    assert made == ["a", "b", "c", "b"]


@given(plans(), st.booleans())
def test_a_bucket_holds_what_it_is_for_and_is_its_own_bucket(plan: ForwardPlan, in_place: bool) -> None:
    buckets = Buckets(512, 256)
    shape = Tiling(plan, in_place=in_place).shape
    bucket = buckets.of(shape)
    assert bucket is not None
    assert bucket.holds(shape)
    assert buckets.above(bucket) == bucket
    has_context = bool(plan.committed.any())
    assert (bucket.keys > 0, bucket.ranges > 0) == (has_context and not in_place, has_context and in_place)
    assert bucket.tokens <= max(plan.num_tokens * 3 // 2, 1)
    assert bucket.tiles <= bucket.tokens


def test_buckets_end_where_masks_get_large_or_logits_are_wanted_twice() -> None:
    plan = chain(8, context=300)
    bucket = Buckets(512, 100_000).of(Tiling(plan, in_place=False).shape)
    assert bucket is not None
    assert bucket.keys == 512
    assert Buckets(4, 100_000).of(Tiling(plan, in_place=False).shape) is None
    twice = replace(plan, logit_rows=np.repeat(np.arange(8, dtype=np.int32), 2))
    assert Buckets(512, 100_000).of(Tiling(twice, in_place=False).shape) is None
    many = build_plan(
        [chain_row(np.arange(40_000), np.zeros(32, np.int32), np.arange(32), last_logits=True) for _ in range(16)]
    )
    assert MOST_SCORES < 16 * 32 * 40_000
    assert Buckets(512, 100_000).of(Tiling(many, in_place=False).shape) is None
    assert Buckets(512, 100_000).of(Tiling(many, in_place=True).shape) is not None


@pytest.mark.parametrize(("limit", "keys"), [(1000, FEWEST_KEYS), (100, 128)])
def test_no_bucket_has_more_keys_than_a_context_can_have(limit: int, keys: int) -> None:
    bucket = Buckets(512, limit).of(Tiling(chain(1, context=90), in_place=False).shape)
    assert bucket is not None
    assert bucket.keys == keys


def test_steps_are_powers_of_two_and_one_and_a_half_times_that() -> None:
    assert [step(count) for count in (1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 385, 512)] == [
        1,
        2,
        3,
        4,
        6,
        6,
        8,
        12,
        12,
        16,
        512,
        512,
    ]
