"""Passes padded to fixed shapes and replayed say and write what launched ones do."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.inference.blocks import BlockPool
from shared.inference.buckets import MOST_TOKENS, WIDTHS, Load, level_shapes, pass_shapes
from shared.inference.plan import ForwardPlan, PlanRow, build_plan, chain_row
from shared.inference.profile import TOKENS, sweep
from shared.inference.recording import Recorder, Recordings, Work
from shared.inference.runner import ModelRunner
from shared.inference.tiled import TiledPass, unpacked
from shared.inference.tiles import Shape, Tiling
from tests.unit.shared.inference.test_tiled import PlainInPlace
from tests.unit.shared.inference.tiny_models import VOCAB, new_runner, relative_difference, stock_model
from tests.unit.shared.inference.token_trees import trees

WINDOWED = "mistral-window"
LOAD = Load(rows=4, chunk=16, context=256, trees=(1, 4, 12))


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


def runner_of(family: str = "llama", *, load: Load | None = None, **options: object) -> ModelRunner:
    """With random KV already in its pool, the same for all; with a load what that usually brings is recorded."""
    runner = ModelRunner(copy.deepcopy(stock_model(family, torch.float64)), 512, tiled=True, **options)  # type: ignore[arg-type]
    runner.cache.data[:, :, :512] = torch.randn(
        runner.cache.data[:, :, :512].shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    if load is not None:
        runner.record(load)
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
        tiling = Tiling(plan, in_place=kernel is not None)
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
    kernel = PlainInPlace() if way == "in place" else None
    replayed = runner_of(family, load=LOAD, recorded=True, in_place=kernel)
    ran = count_replays(replayed)

    @settings(deadline=None, max_examples=40)
    @given(plans())
    def check(plan: ForwardPlan) -> None:
        assert relative_difference(replayed.logits(plan), launched.logits(plan)) <= 1e-9
        torch.testing.assert_close(
            replayed.cache.data[:, :, :512], launched.cache.data[:, :, :512], rtol=1e-9, atol=1e-9
        )

    check()
    assert ran


def count_replays(runner: ModelRunner) -> list[Shape]:
    """The shapes of what is replayed from now on."""
    assert runner._tiled is not None
    ran: list[Shape] = []
    kept = runner._tiled._recordings._kept
    for index, (shape, recorded) in enumerate(kept):

        def replay(shape: Shape = shape, inner: Work = recorded.replay) -> None:
            ran.append(shape)
            inner()

        kept[index] = shape, replace(recorded, replay=replay)
    return ran


def chain(num_tokens: int, *, context: int = 0) -> ForwardPlan:
    slots = np.arange(context + num_tokens, dtype=np.int32)
    tokens = np.arange(num_tokens, dtype=np.int32) % VOCAB
    return build_plan([chain_row(slots[:context], tokens, slots[context:], last_logits=True)])


def test_what_is_larger_than_all_that_is_recorded_is_launched() -> None:
    runner, other = runner_of(load=Load(rows=1, chunk=0, context=256, trees=(8,)), recorded=True), runner_of()
    ran = count_replays(runner)
    for size, expected in ((9, 0), (8, 1), (7, 2)):
        assert relative_difference(runner.logits(chain(size)), other.logits(chain(size))) <= 1e-9
        assert len(ran) == expected


def test_the_sweep_at_the_start_and_its_logits_are_replayed() -> None:
    runner = ModelRunner(copy.deepcopy(stock_model("llama", torch.float32)), 4800, tiled=True, recorded=True)
    runner.record(Load(rows=64, chunk=256, context=256))
    ran = count_replays(runner)
    samples = sweep(runner.logits, BlockPool(300), context_limit=256, clock=time.perf_counter)
    assert len(ran) == 4 * len(samples)  # one warms up, three are measured
    assert {sample.tokens for sample in samples} >= set(TOKENS)


def test_ranks_and_cpus_record_nothing_by_themselves() -> None:
    assert new_runner()._tiled is None
    for runner in (new_runner(), runner_of()):
        runner.record(LOAD)
        assert runner.num_recorded == 0


def test_a_replay_reads_what_its_inputs_are_then() -> None:
    given_, result = torch.tensor([1.0, 2.0]), torch.zeros(2)

    def work() -> None:
        result.copy_(given_ * 2)

    replay = Recorder(torch.device("cpu")).record(work)
    given_.copy_(torch.tensor([5.0, 6.0]))
    replay()
    assert result.tolist() == [10.0, 12.0]


@dataclass(frozen=True, slots=True)
class Size:
    cost: float

    def holds(self, other: Size) -> bool:
        return self.cost >= other.cost


def test_the_largest_is_recorded_first_and_the_smallest_that_holds_is_used() -> None:
    recordings, made = Recordings[Size, str](), []
    recordings.record([Size(2), Size(8), Size(4), Size(2)], lambda size: made.append(size.cost) or str(size.cost))
    assert made == [8, 4, 2]
    assert [found and found[1] for found in map(recordings.holding, map(Size, (1, 2, 3, 8, 9)))] == [
        "2",
        "2",
        "4",
        "8",
        None,
    ]


def test_what_there_is_no_memory_for_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    def record(size: Size) -> str:
        if size.cost > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "recorded"

    recordings = Recordings[Size, str]()
    recordings.record([Size(2), Size(8)], record)
    assert len(recordings) == 1
    assert "1 shapes" in caplog.text


def test_a_runner_without_memory_for_recordings_launches() -> None:
    runner, other = runner_of(recorded=True), runner_of()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "record", raises_out_of_memory)
        runner.record(LOAD)
    assert runner.num_recorded == 0
    assert relative_difference(runner.logits(chain(4)), other.logits(chain(4))) <= 1e-9


def raises_out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def a_step(generator: np.random.Generator, limit: int) -> ForwardPlan:
    """As a verifier plans it: trees of up to 96 nodes in all, at times beside a chunk, over contexts in pieces."""
    rows = []
    num_rows = int(generator.integers(1, 33))
    sizes = 1 + generator.multinomial(generator.integers(0, 97), np.ones(num_rows) / num_rows)
    for size in [*sizes.tolist(), *([int(generator.integers(1, 257))] if generator.random() < 0.2 else [])]:
        length = int(generator.integers(0, limit - 256))
        pieces = np.array_split(np.arange(length, dtype=np.int32), generator.integers(1, 3))
        context = np.concatenate([piece + 10_000 * index for index, piece in enumerate(pieces)])
        row = chain_row(context, np.zeros(size, np.int32), np.arange(size, dtype=np.int32), last_logits=False)
        logits = np.arange(size) if size in sizes or generator.random() < 0.3 else row.logits
        rows.append(replace(row, logits=logits, tokens=row.tokens))
    return build_plan(rows)


@pytest.mark.parametrize(("in_place", "limit"), [(True, 8000), (False, 2300)])
def test_nearly_all_steps_of_a_verifier_have_a_recording(in_place: bool, limit: int) -> None:
    shapes = pass_shapes(Load(rows=64, chunk=256, context=limit), in_place=in_place)
    assert len(shapes) <= 200
    recordings, generator = Recordings[Shape, None](), np.random.default_rng(11)
    recordings.record(shapes, lambda _: None)
    steps = [Tiling(a_step(generator, limit), in_place=in_place).shape for _ in range(400)]
    used = [(shape, recordings.holding(shape)) for shape in steps]
    assert sum(found is None for _, found in used) <= 0.02 * len(steps)
    padded = [found[0].tokens / shape.tokens for shape, found in used if found is not None]
    assert np.median(padded) <= 1.5


def test_what_is_recorded_for_a_load_stays_within_it() -> None:
    load = Load(rows=5, chunk=40, context=100, widths=WIDTHS)
    for in_place in (True, False):
        shapes, levels = pass_shapes(load, in_place=in_place), level_shapes(load, in_place=in_place)
        assert max(shape.tokens for shape in shapes) <= MOST_TOKENS
        assert max(shape.keys for shape in shapes) == (0 if in_place else 128)
        assert {level.rows for level in levels} == {1, 2, 4, 5}
        assert {level.depth for level in levels} == {33, 17, 11, 9}
        assert all((shape.keys > 0) != (shape.ranges > 0) for shape in shapes)
    assert not level_shapes(replace(load, widths=()), in_place=True)
