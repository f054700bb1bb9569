from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.inference.plan import ForwardPlan, build_plan, chain_row
from shared.inference.runner import ModelRunner
from tests.unit.shared.inference.tiny_models import VOCAB, new_model, new_runner, stock_logits, stock_model
from tests.unit.shared.inference.token_trees import tokens

TEXT = [3, 1, 4, 1, 5]


def plan_of(text: list[int], *, last_logits: bool = True) -> ForwardPlan:
    slots = np.arange(len(text))
    return build_plan([chain_row(slots[:0], np.array(text), slots, last_logits=last_logits)])


@pytest.mark.parametrize("width", [1, 3, VOCAB, VOCAB + 9])
def test_top_is_the_head_of_the_sorted_log_softmax(width: int) -> None:
    runner = new_runner(dtype=torch.float32)

    @settings(deadline=None, max_examples=10)
    @given(st.lists(tokens, min_size=1, max_size=8))
    def check(text: list[int]) -> None:
        logits = stock_logits("llama", torch.float32, text).astype(np.float64)
        log_probs = logits - np.log(np.exp(logits).sum())
        ids, values = runner.top(plan_of(text), width)
        assert ids.dtype == np.int32
        assert values.dtype == np.float32
        assert ids.shape == values.shape == (1, min(width, VOCAB))
        np.testing.assert_allclose(values[0], np.sort(log_probs)[::-1][:width], atol=1e-5)
        np.testing.assert_allclose(log_probs[ids[0]], values[0], atol=1e-5)

    check()


def test_ids_beyond_the_vocabulary_do_not_exist() -> None:
    runner = ModelRunner(copy.deepcopy(stock_model("llama", torch.float32)), 64, vocab_size=10)
    logits = runner.logits(plan_of(TEXT))
    assert logits.shape == (1, 10)
    ids, values = runner.top(plan_of(TEXT), 20)
    assert sorted(ids[0].tolist()) == list(range(10))
    np.testing.assert_allclose(np.exp(values).sum(), 1.0, rtol=1e-5)
    assert ModelRunner(copy.deepcopy(stock_model("llama", torch.float32)), 1, vocab_size=999).vocab_size == VOCAB


@pytest.mark.parametrize(
    ("dtype", "on_host"),
    [(torch.float32, np.float32), (torch.bfloat16, np.float32), (torch.float64, np.float64)],
    ids=str,
)
def test_logits_reach_the_host_in_their_own_precision_or_float32(
    dtype: torch.dtype, on_host: type[np.generic]
) -> None:
    logits = new_runner(dtype=dtype).logits(plan_of(TEXT))
    assert logits.dtype == on_host
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    reference = stock_logits("llama", torch.float64, TEXT)
    np.testing.assert_allclose(logits[0], reference, atol=tolerance * np.abs(reference).max())


def test_a_pass_without_wanted_logits_still_writes_kv() -> None:
    runner = new_runner()
    assert runner.logits(plan_of(TEXT, last_logits=False)).shape == (0, VOCAB)
    assert runner.cache.data[:, :, : len(TEXT)].abs().amin(dim=-1).gt(0).all()


def test_an_empty_plan_has_no_logits() -> None:
    runner = new_runner()
    assert runner.logits(build_plan([])).shape == (0, VOCAB)
    assert runner.top(build_plan([]), 3)[0].shape == (0, 3)


@pytest.mark.parametrize(
    ("of_generation", "of_model", "expected"),
    [(5, 7, (5,)), ([5, 6], 7, (5, 6)), (None, 7, (7,)), (None, [7, 8], (7, 8)), (None, None, ())],
)
def test_end_tokens_come_from_the_generation_settings_first(
    of_generation: int | list[int] | None, of_model: int | list[int] | None, expected: tuple[int, ...]
) -> None:
    model = new_model("llama", torch.float32)
    model.generation_config.eos_token_id = of_generation
    model.config.eos_token_id = of_model
    runner = ModelRunner(model, 16)
    assert runner.eos_token_ids == expected
    assert runner.context_limit == 256
