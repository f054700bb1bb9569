"""The verifier's step and the drafter's round, one after the other: an engine without bus, selector and clock.

Plans, forward passes, drawing, acceptance and KV moves are the services' own; all drafted nodes are verified.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.draft_requests import draft_request
from bench.made_requests import made_request
from services.drafter.drafter import Drafter
from services.verifier.batch import build_batch, settle_batch
from services.verifier.generation import Generation
from services.verifier.stopping import StopRules
from services.verifier.tally import Totals
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.inference.loading import load_model
from shared.inference.runner import ModelRunner
from shared.records import Origin
from shared.tree import TokenTree

Int32 = npt.NDArray[np.int32]

BLOCK = 16
DEPTH, WIDTH = 4, 3


def longest_output(num_tokens: int) -> int:
    """Of a request when all others have ``num_tokens``: a step brings one token, or all levels and one more."""
    return (DEPTH + 1) * num_tokens


class Speculated:
    """Two models that complete prompts, up to ``batch`` requests at a time, of up to ``context`` tokens each."""

    def __init__(
        self, target: str, draft: str, *, device: str, dtype: str, batch: int, context: int, vocab_size: int
    ) -> None:
        num_blocks = batch * -(-(context + DEPTH * WIDTH) // BLOCK)
        self._pool, draft_pool = BlockPool(num_blocks), BlockPool(num_blocks)
        runners = [
            ModelRunner(load_model(path, device=device, dtype=dtype), num_blocks * BLOCK, vocab_size=vocab_size)
            for path in (target, draft)
        ]
        self._target = runners[0]
        self._drafter = Drafter(
            runners[1],
            draft_pool,
            max_tokens=batch * WIDTH,
            catch_up=context,
            warm_chunk=context,
            search=None if device == "cpu" else runners[1].beams,
        )
        self.accepted = 0  # drafted tokens
        self.steps = 0  # of one request, with a tree

    def complete(self, prompt: Sequence[int], seeds: Sequence[int], num_tokens: int, temperature: float) -> Int32:
        """The first tokens of an output for each seed, int32 [seeds, num_tokens]; nothing ends one earlier."""
        generations = [
            self._generation(prompt, seed, num_tokens, temperature, number)
            for number, seed in enumerate(seeds, start=1)
        ]
        for generation in generations:
            generation.slots.reserve(len(prompt))
        self._step({}, [(generation, len(prompt)) for generation in generations])
        known = [0] * len(generations)
        while min(generation.num_output for generation in generations) < num_tokens:
            trees, known = self._trees(generations, known)
            for generation, tree in zip(generations, trees, strict=True):
                generation.slots.reserve(generation.position + len(tree))
            before = sum(generation.num_output for generation in generations)
            self._step(dict(zip(generations, trees, strict=True)), [])
            gained = sum(generation.num_output for generation in generations) - before
            self.steps += len(generations)
            self.accepted += gained - len(generations)
        outputs = [generation.tokens[len(prompt) :][:num_tokens] for generation in generations]
        for generation in generations:
            generation.slots.free()
        self._drafter.keep(())
        return np.array(outputs, np.int32)

    def _step(self, decoding: dict[Generation, TokenTree], chunks: list[tuple[Generation, int]]) -> None:
        batch = build_batch(decoding, chunks)
        _, moves = settle_batch(batch, self._target.logits(batch.plan), Totals(), lambda _: "")
        self._target.cache.move(*moves)

    def _trees(self, generations: Sequence[Generation], known: list[int]) -> tuple[list[TokenTree], list[int]]:
        asked = draft_request(
            [generation.tokens for generation in generations],
            known=known,
            committed=[generation.num_output for generation in generations],
            depth=DEPTH,
            width=WIDTH,
        )
        drafted = self._drafter.draft(asked)
        acknowledged: list[int] = drafted.acknowledged.tolist()
        if min(acknowledged) < 0:
            raise RuntimeError("the drafter has lost a row, or has no room for it")
        return drafted.trees, acknowledged

    def _generation(
        self, prompt: Sequence[int], seed: int, num_tokens: int, temperature: float, number: int
    ) -> Generation:
        request = made_request(
            number,
            prompt,
            max_tokens=longest_output(num_tokens),  # whoever has enough goes on until all have
            temperature=temperature,
            seed=seed,
            max_depth=DEPTH,
        )
        return Generation(
            request=request,
            origin=Origin(body=b"", tenant="bench", tier=0, seed=seed, gateway="", traceparent=None),
            epoch="1",
            rules=StopRules.of(request, frozenset()),
            slots=SequenceSlots(self._pool),
        )
