"""The target model as the verifier uses it: loaded, warmed up, measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from services.verifier.parallel import LeadingRunner, lead
from services.verifier.settings import VerifierSettings
from shared.errors import ModelError
from shared.inference.blocks import BlockPool
from shared.inference.heap import give_back_freed, give_back_large
from shared.inference.identity import model_name
from shared.inference.loading import load_model
from shared.inference.placing import Use, kv_setting, place
from shared.inference.profile import sweep
from shared.inference.runner import ModelRunner
from shared.inference.threads import use_threads
from shared.latency import LatencyModel
from shared.latency_fit import fit
from shared.tokenizer import Tokenizer, load_tokenizer

logger = logging.getLogger(__name__)

MIN_COUNTS = 2  # different token counts, of a latency model
MIN_SLOTS = 32


@dataclass(frozen=True, slots=True)
class Target:
    """The loaded target: model, pool, tokenizer, and how long its forward passes take."""

    name: str
    runner: ModelRunner | LeadingRunner
    pool: BlockPool
    tokenizer: Tokenizer
    table: LatencyModel
    context_limit: int
    eos_token_ids: frozenset[int]
    close: Callable[[], None]
    """Lets the other ranks go, where the model is divided among several."""

    def describe(self, **now: Any) -> dict[str, Any]:
        """What the heartbeat says of this verifier; ``now`` is what changes from beat to beat."""
        return {
            "ready": True,
            "context_limit": self.context_limit,
            "model": self.name,
            "token_map": self.tokenizer.token_map_digest,
            **now,
        }


def load_target(settings: VerifierSettings) -> Target:
    """Load, warm up and measure. Raises ModelError."""
    use_threads(settings.threads)
    give_back_large()
    tokenizer = load_tokenizer(settings.target)
    runner, pool, close = _load(settings)
    num_slots = pool.num_blocks * pool.block_size
    limits = [runner.context_limit, num_slots, settings.context_limit]
    context_limit = min(limit for limit in limits if limit is not None)
    if tokenizer.vocab_size > runner.vocab_size:
        raise ModelError(
            f"{settings.target}: the tokenizer has {tokenizer.vocab_size} ids, the model only {runner.vocab_size}"
        )
    samples = sweep(runner.logits, pool, context_limit=context_limit, clock=time.perf_counter)
    if len({sample.tokens for sample in samples}) < MIN_COUNTS:
        raise ModelError(
            f"{kv_setting(settings)}: holds {num_slots} tokens of {settings.target}, "
            f"at least {MIN_SLOTS} are needed"
        )
    give_back_freed()
    eos = tokenizer.eos_token_ids | frozenset(runner.eos_token_ids)
    return Target(model_name(settings.target), runner, pool, tokenizer, fit(samples), context_limit, eos, close)


def _load(settings: VerifierSettings) -> tuple[ModelRunner | LeadingRunner, BlockPool, Callable[[], None]]:
    """The model in this process, or this process' part of it with the other ranks at work."""
    if settings.tensor_parallel > 1:
        if settings.is_recorded:
            logger.info("forward passes are not recorded: several ranks share the model")
        leading, pool, ranks = lead(settings)
        return leading, pool, ranks.close
    model = load_model(settings.target, device=settings.device, dtype=settings.dtype)
    use = Use(
        tokens=settings.largest_pass,
        load=settings.load(model.config.max_position_embeddings),
        run=ModelRunner.logits,
        build=partial(ModelRunner, recorded=settings.is_recorded),
    )
    runner, pool = place(model, settings, use)
    return runner, pool, lambda: None
