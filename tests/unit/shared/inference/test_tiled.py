"""Attention of all rows at once says what attention row by row and stock forwards say."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.inference.flash import flash_in_place, flash_kernel
from shared.inference.key_ranges import key_ranges
from shared.inference.plan import ForwardPlan, build_plan, chain_row
from shared.inference.runner import ModelRunner
from shared.inference.tiled import TiledPass, merge
from tests.unit.shared.inference import tiny_models
from tests.unit.shared.inference.test_attention import NUM_SEQUENCES, PRECISIONS, check_passes, steps
from tests.unit.shared.inference.tiny_models import relative_difference, stock_model


class PlainInPlace:
    """What the flash kernel does, range by range; like it, it leaves queries without keys to chance."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        bounds: torch.Tensor,
        first_keys: torch.Tensor,
        num_keys: torch.Tensor,
        max_queries: int,
        max_keys: int,
        scaling: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        output = torch.full_like(query, torch.nan)
        lse = torch.full(query.shape[:2], torch.inf, dtype=torch.promote_types(query.dtype, torch.float32))
        for index, (first, count) in enumerate(zip(first_keys.tolist(), num_keys.tolist(), strict=False)):
            start, stop = bounds[index : index + 2].tolist()
            assert stop - start <= max_queries
            assert count <= max_keys
            if count and stop > start:
                scores = torch.einsum("qhd,khd->hqk", query[start:stop], keys[first : first + count]) * scaling
                mixed = torch.softmax(scores, -1) @ values[first : first + count].transpose(0, 1)
                output[start:stop] = mixed.transpose(0, 1)
                lse[start:stop] = torch.logsumexp(scores, -1).T
        return output, lse


def new_runner(family: str, dtype: torch.dtype, in_place: PlainInPlace | None = None) -> ModelRunner:
    return ModelRunner(copy.deepcopy(stock_model(family, dtype)), 512, tiled=True, in_place=in_place)


@pytest.mark.parametrize("way", ["gathered", "in place"])
@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_any_mix_of_chunks_and_trees_equals_stock_forwards(family: str, dtype: torch.dtype, way: str) -> None:
    kernel = PlainInPlace() if way == "in place" else None
    runner = new_runner(family, dtype, kernel)

    @settings(deadline=None, max_examples=8)
    @given(steps(NUM_SEQUENCES))
    def check(passes: list[list[object]]) -> None:
        check_passes(runner, passes, family, dtype)

    check()
    assert kernel is None or kernel.calls or "window" in family  # beyond a window keys are gathered


def long_rows(generator: np.random.Generator) -> ForwardPlan:
    """A chunk of several tiles beside single tokens and a short chunk, all behind a context."""
    rows = []
    for index, (context, fed) in enumerate([(40, 1), (7, 70), (0, 33), (90, 5)]):
        slots = np.arange(120 * index, 120 * index + context + fed, dtype=np.int32)
        tokens = generator.integers(0, tiny_models.VOCAB, fed).astype(np.int32)
        rows.append(chain_row(slots[:context], tokens, slots[context:], last_logits=True))
    return build_plan(rows)


@pytest.mark.parametrize("way", ["gathered", "in place"])
@pytest.mark.parametrize("family", ["llama", "mistral-window", "qwen2-window"])
def test_rows_longer_than_a_tile_equal_attention_row_by_row(family: str, way: str) -> None:
    generator = np.random.default_rng(5)
    rowwise = tiny_models.new_runner(family)
    tiled = new_runner(family, torch.float64, PlainInPlace() if way == "in place" else None)
    rowwise.cache.data.normal_(generator=torch.Generator().manual_seed(1))
    tiled.cache.data[:, :, :-1] = rowwise.cache.data
    plan = long_rows(generator)
    assert relative_difference(tiled.logits(plan), rowwise.logits(plan)) <= 1e-9
    torch.testing.assert_close(tiled.cache.data[:, :, :-1], rowwise.cache.data, rtol=1e-9, atol=1e-9)
    assert not tiled.cache.data[:, :, -1].any()  # nothing of this pass is padding


@pytest.mark.parametrize(("bound", "size"), [("GATHERED", 100), ("MASKED", 20_000), ("MASKED", 1)])
@pytest.mark.parametrize("family", ["llama", "mistral-window", "qwen2-window"])
def test_more_keys_or_scores_than_there_are_at_a_time_change_nothing(
    family: str, bound: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, plan = new_runner(family, torch.float64), long_rows(np.random.default_rng(5))
    whole = runner.logits(plan)
    masks: list[tuple[int, ...]] = []
    mask_of = TiledPass._mask

    def seen(self: TiledPass, window: int | None, groups: int, part: slice) -> torch.Tensor:
        mask = mask_of(self, window, groups, part)
        masks.append(tuple(mask.shape))
        return mask

    monkeypatch.setattr(TiledPass, "_mask", seen)
    monkeypatch.setattr(f"shared.inference.tiled.{bound}", size)
    np.testing.assert_array_equal(runner.logits(plan), whole)
    assert len(masks) > 2
    assert bound == "GATHERED" or all((len(shape) and np.prod(shape) <= size) or shape[0] == 1 for shape in masks)


@pytest.mark.parametrize("way", ["gathered", "in place"])
def test_bfloat16_rounds_about_as_much_as_row_by_row(way: str) -> None:
    plan = long_rows(np.random.default_rng(5))
    exact = new_runner("llama", torch.float64).logits(plan)
    tiled = new_runner("llama", torch.bfloat16, PlainInPlace() if way == "in place" else None)
    errors = [
        relative_difference(runner.logits(plan).astype(np.float64), exact)
        for runner in (tiled, tiny_models.new_runner("llama", torch.bfloat16))
    ]
    assert errors[0] <= 2 * errors[1]


def test_merging_attention_over_parts_gives_that_over_all() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, values = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((2, 9), (9, 4)))

    def over(line: int, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            torch.softmax(scores[line : line + 1, part], -1) @ values[part],
            torch.logsumexp(scores[line : line + 1, part], -1, keepdim=True),
        )

    near = [over(0, slice(0, 3)), over(1, slice(0, 9))]
    nothing = torch.zeros(1, 4, dtype=torch.float64), torch.full((1, 1), -torch.inf, dtype=torch.float64)
    far = [over(0, slice(3, 4)), nothing, over(0, slice(4, 9))]
    columns = [torch.cat(column) for parts in (near, far) for column in zip(*parts, strict=True)]
    merged = merge(*columns, torch.tensor([0, 1, 0], dtype=torch.int32))
    torch.testing.assert_close(merged, torch.softmax(scores, -1) @ values)


@given(
    st.lists(st.lists(st.integers(1, 9), max_size=4), min_size=1, max_size=5),
    st.lists(st.integers(0, 4), max_size=6),
    st.integers(1, 5),
)
def test_key_ranges_are_the_contexts(pieces: list[list[int]], asked: list[int], shortest: int) -> None:
    contexts = []
    for row, sizes in enumerate(pieces):
        parts = [np.arange(size, dtype=np.int32) + 1000 * row + 20 * i for i, size in enumerate(sizes)]
        contexts.append(np.concatenate([np.zeros(0, np.int32), *parts]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.inference.key_ranges.SHORTEST_SPLIT", shortest)
        patch.setattr("shared.inference.key_ranges.SPLIT_BELOW", 3)
        ranges = key_ranges(np.concatenate(contexts), np.array([len(context) for context in contexts]))
    sequences = np.array([index for index in asked if index < len(contexts)], np.int64)
    for found, wanted in (
        (ranges, contexts),
        (ranges.of_each(sequences), [contexts[index] for index in sequences]),
    ):
        assert (np.diff(found.owner) >= 0).all()
        for index, context in enumerate(wanted):
            own = [
                np.arange(first, first + count)
                for owner, first, count in zip(found.owner, found.first, found.count, strict=True)
                if owner == index
            ]
            assert np.concatenate([np.zeros(0, np.int64), *own]).tolist() == context.tolist()
    longest = max(shortest, -(-sum(map(len, contexts)) // 3))
    assert (ranges.count <= longest).all()


def test_few_long_contexts_are_split_and_many_are_not() -> None:
    assert len(key_ranges(np.arange(8192, dtype=np.int32), np.array([8192])).owner) == 16
    assert len(key_ranges(np.arange(512, dtype=np.int32), np.array([512])).owner) == 1
    many = np.concatenate([np.arange(1024, dtype=np.int32) + 5000 * row for row in range(64)])
    assert len(key_ranges(many, np.full(64, 1024)).owner) == 64


@pytest.mark.parametrize(
    ("dtype", "device", "head_dim"),
    [
        (torch.bfloat16, "cpu", 64),
        (torch.float32, "cuda", 64),
        (torch.bfloat16, "cuda", 12),
        (torch.float64, "cuda", 64),
    ],
)
def test_flash_is_not_asked_for_what_it_cannot_do(dtype: torch.dtype, device: str, head_dim: int) -> None:
    assert flash_in_place(dtype, torch.device(device), head_dim) is None


def test_flash_is_called_as_its_operator_is_declared() -> None:
    """The shapes and the order of its outputs, on a device without memory."""
    kernel = flash_kernel()
    assert kernel is not None
    meta = {"device": "meta"}
    pool = torch.empty(40, 2, 8, dtype=torch.bfloat16, **meta)
    bounds, first = (torch.empty(3, dtype=torch.int32, **meta) for _ in range(2))
    output, lse = kernel(
        torch.empty(12, 2, 8, dtype=torch.bfloat16, **meta), pool, pool, bounds, first, bounds[:2], 6, 20, 0.5
    )
    assert output.shape == (12, 2, 8)
    assert lse.shape == (12, 2)
