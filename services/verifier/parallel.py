"""The target model on several ranks: rank 0 decides what is computed, the others compute their part of it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from services.verifier.meeting import Line, join
from services.verifier.ranks import Ranks
from services.verifier.settings import VerifierSettings
from shared.inference.blocks import BlockPool
from shared.inference.kv import KVCache
from shared.inference.loading import check_device
from shared.inference.placing import Use, place
from shared.inference.plan import ForwardPlan, Int32Array
from shared.inference.runner import ModelRunner
from shared.inference.shard_loading import check_shards, load_shard
from shared.inference.sharding import Rank
from shared.inference.steps import Moves, Step


class ToldCache:
    """Rank 0's KV; what is copied here is copied on the other ranks before their next forward pass."""

    def __init__(self, cache: KVCache) -> None:
        self._cache = cache
        self._untold: list[Moves] = []

    def move(self, source: Int32Array, destination: Int32Array) -> None:
        """`KVCache.move` on every rank."""
        self._cache.move(source, destination)
        if (source != destination).any():
            self._untold.append((source, destination))

    def take_untold(self) -> list[Moves]:
        """What the other ranks have still to do, in order."""
        untold, self._untold = self._untold, []
        return untold


class LeadingRunner:
    """Rank 0's `ModelRunner`, as the engine uses it; every forward pass is one on all ranks.

    ``fail`` ends the process: after an error the ranks are no longer at the same step.
    """

    def __init__(self, runner: ModelRunner, line: Line, fail: Callable[[Exception], NoReturn]) -> None:
        self._runner = runner
        self._line = line
        self._fail = fail
        self.cache = ToldCache(runner.cache)
        self.vocab_size = runner.vocab_size
        self.context_limit = runner.context_limit
        self.eos_token_ids = runner.eos_token_ids

    def logits(self, plan: ForwardPlan) -> npt.NDArray[np.floating[Any]]:
        """`ModelRunner.logits` of the whole model."""
        if plan.num_tokens == 0:
            return self._runner.logits(plan)
        try:
            self._line.tell(Step(self.cache.take_untold(), plan))
            return self._runner.logits(plan)
        except Exception as error:  # whatever it is
            self._fail(error)


def lead(settings: VerifierSettings) -> tuple[LeadingRunner, BlockPool, Ranks]:
    """Rank 0's part with the other ranks at work, who are let go by `Ranks.close`. Raises ModelError."""
    count = settings.tensor_parallel
    check_shards(settings.target, count)
    check_device(settings.device_of(count - 1))
    folder = Path(tempfile.mkdtemp(prefix="adaserve-ranks-"))  # readable by this user alone
    store = folder / "store"
    command = [sys.executable, "-m", "services.verifier.follower"]
    ranks = Ranks([[*command, str(index), str(store)] for index in range(1, count)], folder)
    try:
        rank, line = join(settings, 0, store)
        runner, pool = load_part(settings, rank)
        line.wait_for_all()
    except BaseException:
        ranks.close()
        raise
    return LeadingRunner(runner, line, ranks.fail), pool, ranks


def load_part(settings: VerifierSettings, rank: Rank) -> tuple[ModelRunner, BlockPool]:
    """One rank's part of the model with the KV of its heads; all ranks have as many slots. Raises ModelError."""
    model = load_shard(settings.target, device=settings.device_of(rank.index), dtype=settings.dtype, rank=rank)
    use = Use(
        tokens=settings.largest_pass,
        load=settings.load(model.config.max_position_embeddings),
        run=ModelRunner.logits,
        build=partial(ModelRunner, rank=rank),
        rank=rank,
    )
    return place(model, settings, use)


def follow(runner: ModelRunner, line: Line) -> NoReturn:
    """Do what rank 0 says until the process ends. Raises RuntimeError when another rank is gone."""
    while True:
        obey(runner, line.hear())


def obey(runner: ModelRunner, step: Step) -> None:
    """One step of a following rank: what rank 0 has copied is copied here, then its part of the forward pass."""
    for source, destination in step.moves:
        runner.cache.move(source, destination)
    runner.forward(step.plan)
