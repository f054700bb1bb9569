"""Two ranks over gloo compute what one does: this process is rank 0, `divided` as a process is rank 1."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.distributed as dist

from services.verifier.meeting import FIRST_BYTES, Line, join
from services.verifier.parallel import LeadingRunner, load_part
from shared.inference.loading import load_model
from shared.inference.plan import PlanRow, build_plan, chain_row
from shared.inference.runner import ModelRunner
from shared.inference.sharding import Rank
from shared.inference.steps import Step
from tests.unit.services.verifier.divided import FAMILIES, OFFERED, VOCAB, save_model, settings_of

TOLERANCE = 1e-13

Meeting = tuple[Rank, Line, int]  # and what both ranks have room for


class Lockstep:
    """The whole model and its two halves, given the same work; differences are errors."""

    def __init__(self, whole: ModelRunner, halves: LeadingRunner) -> None:
        self.whole = whole
        self.halves = halves

    def run(self, *rows: PlanRow) -> npt.NDArray[Any]:
        plan = build_plan(rows)
        expected, actual = self.whole.logits(plan), self.halves.logits(plan)
        assert actual.dtype == np.float64
        assert actual.shape == expected.shape == (len(plan.logit_rows), VOCAB)
        scale = np.abs(expected).max(initial=1.0)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * scale)
        return expected

    def move(self, source: list[int], destination: list[int]) -> None:
        for runner in (self.whole, self.halves):
            runner.cache.move(np.array(source, np.int32), np.array(destination, np.int32))


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {family: save_model(family, folder / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def meeting(directories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meeting]:
    store = tmp_path_factory.mktemp("ranks") / "store"
    second = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.services.verifier.divided", store, *directories.values()]
    )
    try:
        rank, line = join(settings_of(directories["llama"]), 0, store)
        yield rank, line, rank.least(OFFERED[0], torch.device("cpu"))
        dist.destroy_process_group()
    finally:
        second.kill()
        second.wait()


def broken(error: Exception) -> NoReturn:
    raise error


def test_ranks_agree_on_the_least_that_any_has_room_for(meeting: Meeting) -> None:
    assert meeting[2] == min(OFFERED)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_ranks_have_the_logits_of_one(family: str, directories: dict[str, Path], meeting: Meeting) -> None:
    """In the order of FAMILIES, as the second process goes through them."""
    torch.set_num_threads(1)
    rank, line, _ = meeting
    part, _ = load_part(settings_of(directories[family]), rank)
    whole = ModelRunner(load_model(str(directories[family]), device="cpu", dtype="float64"), part.cache.num_slots)
    pair = Lockstep(whole, LeadingRunner(part, line, broken))
    text = np.random.default_rng(3).integers(0, VOCAB, 40).astype(np.int32)
    slots = np.arange(200, dtype=np.int32)

    # Two prompts, one in two chunks, the first of which wants no logits.
    pair.run(chain_row(slots[:0], text[:9], slots[:9], last_logits=False))
    pair.run(
        chain_row(slots[:9], text[9:12], slots[9:12], last_logits=True),
        chain_row(slots[:0], text[20:31], slots[100:111], last_logits=True),
    )
    # Trees of both, and a prompt of a third whose slots are not consecutive.
    parents = np.array([-1, 0, 0, 1, 1, 2, 3], np.int32)
    scattered = slots[199:150:-7]
    pair.run(
        PlanRow(context=slots[:12], tokens=text[12:19], parents=parents, slots=slots[12:19], logits=slots[:7]),
        PlanRow(
            context=slots[100:111],
            tokens=text[31:36],
            parents=np.array([-1, 0, 0, 0, 2], np.int32),
            slots=slots[111:116],
            logits=slots[:5],
        ),
        chain_row(slots[:0], text[:4], scattered[:4], last_logits=True),
    )
    # Accepted nodes move to where the context goes on: overlapping, then what was moved moves again.
    pair.move([12, 14, 17], [12, 13, 14])
    pair.move([14, 113], [15, 112])
    pair.move([15], [14])
    after = pair.run(
        chain_row(slots[:15], text[36:37], slots[15:16], last_logits=True),
        chain_row(slots[[*range(100, 111), 111, 112]], text[37:38], slots[113:114], last_logits=True),
        chain_row(scattered[:4], text[38:40], scattered[4:6], last_logits=True),
    )
    assert np.abs(after).max() > 0.1  # a comparison of something
    # A step longer than the first broadcast.
    context = np.resize(slots[:15], FIRST_BYTES // 4)
    pair.run(chain_row(context, text[38:39], slots[15:16], last_logits=True))
    line.tell(Step([], build_plan([])))

    heads = part.cache.data.shape[3]
    assert heads * 2 == whole.cache.data.shape[3]
    np.testing.assert_allclose(part.cache.data, whole.cache.data[:, :, :, :heads], rtol=0, atol=1e-12)
