"""How much KV a loaded model gets; the reading of a GPU's memory is replaced, what is done with it is not."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from shared.errors import ConfigurationError, ModelError
from shared.gpu_memory import GpuMemory
from shared.inference.buckets import Load
from shared.inference.placing import (
    CPU_KV_MB,
    PIECE,
    ROW_TOKENS,
    Call,
    Use,
    kv_setting,
    largest_pass,
    place,
    share_out,
)
from shared.inference.plan import build_plan, chain_row
from shared.inference.runner import ModelRunner
from shared.settings import EngineSettings
from tests.unit.shared.inference.tiny_models import new_runner, stock_model

SLOT_BYTES = 2 * 2 * 2 * 8 * 8  # layers, keys and values, kv heads, head width, float64
LOAD = Load(rows=2, chunk=0, context=256, trees=(1, 40))
USE = Use(tokens=300, load=LOAD, run=ModelRunner.logits)


def new_model() -> PreTrainedModel:
    """Runners take the weights over."""
    return copy.deepcopy(stock_model("llama", torch.float64))


class Gpu:
    """Whose memory has room for ``num_slots`` of KV besides all else."""

    def __init__(self, num_slots: int) -> None:
        self.kv = num_slots * SLOT_BYTES
        self.logits: object = None

    def measure(self, device: torch.device, forward: Call, record: Call, drop_kv: Call) -> GpuMemory:
        self.logits = forward()
        record()
        drop_kv()
        held, passes, recordings = 1000, 500, 70
        return GpuMemory(
            total=held + passes + recordings + self.kv,
            free=passes + recordings + self.kv,
            held=held,
            forward_pass=passes,
            recordings=recordings,
        )


def test_the_share_is_filled_after_the_largest_pass_was_measured() -> None:
    gpu, model = Gpu(1000), new_model()
    runner, pool = share_out(model, 1.0, USE, gpu.measure)
    assert isinstance(gpu.logits, np.ndarray)
    assert gpu.logits.shape == (USE.tokens, runner.vocab_size)
    assert pool.num_blocks == 1000 // 16
    assert runner.cache.num_slots == runner.cache.data.shape[2] == pool.num_blocks * 16


@pytest.mark.parametrize("is_recorded", [False, True])
def test_a_resized_runner_reads_as_a_new_one(is_recorded: bool) -> None:
    build = partial(ModelRunner, tiled=is_recorded, recorded=is_recorded)
    runner, pool = share_out(new_model(), 1.0, replace(USE, build=build), Gpu(800).measure)
    slots = np.arange(700, 740, dtype=np.int32)  # beyond what the measured pass had
    plan = build_plan([chain_row(slots[:0], np.arange(40, dtype=np.int32), slots, last_logits=True)])
    other = new_runner()
    here = np.arange(40, dtype=np.int32)
    expected = other.logits(build_plan([chain_row(here[:0], here, here, last_logits=True)]))
    runner.record(LOAD)
    assert (runner.num_recorded > 0) == is_recorded
    for _ in range(2):
        np.testing.assert_allclose(runner.logits(plan), expected, rtol=1e-11, atol=1e-12)
    assert pool.num_free == pool.num_blocks


def test_too_small_a_share_is_refused_by_its_variable() -> None:
    with pytest.raises(ConfigurationError, match=r"ADASERVE_GPU_MEMORY_SHARE=0.001: leaves nothing"):
        share_out(new_model(), 0.001, USE, Gpu(1000).measure)


@pytest.mark.parametrize(("tokens", "limit"), [(1, 64), (129, 4096), (2368, 4096), (300, 48)])
def test_the_largest_pass_has_all_tokens_with_logits_and_fits_its_slots(tokens: int, limit: int) -> None:
    plan, num_slots = largest_pass(tokens, limit)
    assert plan.num_tokens == len(plan.logit_rows) == tokens
    assert limit - ROW_TOKENS <= plan.positions.max() < limit
    assert plan.committed.min() == limit - min(ROW_TOKENS, limit // 2)
    assert len(np.unique(plan.slots)) == tokens
    assert not set(plan.slots) & set(plan.context_slots)
    assert max(plan.slots.max(), plan.context_slots.max(initial=0)) < num_slots <= tokens + PIECE


@pytest.mark.parametrize(("set_mb", "expected_mb"), [(None, CPU_KV_MB), (1, 1)])
def test_on_a_cpu_memory_is_what_is_set_or_the_default(set_mb: int | None, expected_mb: int) -> None:
    model = new_model()
    runner, pool = place(model, EngineSettings(kv_memory_mb=set_mb), USE)
    assert pool.num_blocks == (expected_mb << 20) // SLOT_BYTES // 16
    assert runner.cache.data.numel() * 8 <= expected_mb << 20


def test_memory_that_is_not_there_is_refused_by_its_variable() -> None:
    def full(*_: object, **__: object) -> ModelRunner:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB\nmore")

    with pytest.raises(ModelError, match=r"^ADASERVE_KV_MEMORY_MB=9000: does not fit: .*8 GiB$"):
        place(new_model(), EngineSettings(kv_memory_mb=9000), replace(USE, build=full))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_process_stays_within_its_share() -> None:
    model = new_model().to("cuda:0")
    free, total = torch.cuda.mem_get_info(0)
    share = 0.25 * free / total
    runner, pool = place(model, EngineSettings(device="cuda:0", gpu_memory_share=share), USE)
    assert 0.9 * share * total < torch.cuda.memory_reserved(0) < share * total
    slots = np.arange(pool.num_blocks * 16 - 40, pool.num_blocks * 16, dtype=np.int32)
    ids = np.arange(40, dtype=np.int32)
    expected = new_runner().logits(build_plan([chain_row(ids[:0], ids, ids, last_logits=True)]))
    found = runner.logits(build_plan([chain_row(slots[:0], ids, slots, last_logits=True)]))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_the_deciding_variable_is_named() -> None:
    assert kv_setting(EngineSettings()) == f"ADASERVE_KV_MEMORY_MB={CPU_KV_MB}"
    assert kv_setting(EngineSettings(device="cuda:1")) == "ADASERVE_GPU_MEMORY_SHARE=0.9"
    assert kv_setting(EngineSettings(device="cuda", kv_memory_mb=4096)) == "ADASERVE_KV_MEMORY_MB=4096"


def test_passes_recorded_before_a_resize_are_not_replayed_after_it() -> None:
    """On CUDA they would read and write memory that is somebody else's by then."""
    runner = ModelRunner(new_model(), 64, tiled=True, recorded=True)
    slots = np.arange(40, dtype=np.int32)
    plan = build_plan([chain_row(slots[:0], slots, slots, last_logits=True)])
    runner.record(LOAD)
    before = runner.logits(plan).copy()
    assert runner.num_recorded
    runner.resize(200)
    assert runner.num_recorded == 0
    moved = slots + 150
    again = build_plan([chain_row(moved[:0], slots, moved, last_logits=True)])
    for load in (LOAD, replace(LOAD, rows=1)):
        runner.record(load)
        np.testing.assert_allclose(runner.logits(again), before, rtol=1e-11, atol=1e-12)
    assert runner.cache.data[:, :, 150:190].abs().sum() > 0
