"""From scheduling decisions to one forward pass, and from its logits to what is committed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from services.verifier.acceptance import Walk, walk_trees
from services.verifier.generation import Generation
from services.verifier.stopping import judge
from services.verifier.tally import Totals
from shared import codec, logprobs
from shared.errors import GrammarError
from shared.inference.plan import ForwardPlan, PlanRow, build_plan, chain_row
from shared.latency_refit import Operation
from shared.messages import TokenEvent
from shared.records import CommitRow
from shared.tree import EMPTY, TokenTree

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass: ``fed`` counts context tokens per request, ``walks`` are the requests that draw.

    ``stuck`` are, once settled, those whose grammar has failed: they gained nothing and cannot go on.
    """

    plan: ForwardPlan
    fed: list[tuple[Generation, int]]
    walks: list[tuple[Generation, Walk]]
    stuck: list[tuple[Generation, GrammarError]] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Tokens in the forward pass."""
        return self.plan.num_tokens

    @property
    def prefilled(self) -> list[tuple[Generation, int]]:
        """Requests with chunks of what had to be fed before they could draw."""
        return [(generation, size) for generation, size in self.fed if size > 1 or not generation.num_output]

    @property
    def work(self) -> int:
        """Tokens of prompts and outputs that this step, once settled, has brought: all fed, and accepted nodes."""
        return sum(size for _, size in self.fed) + sum(len(walk.path) for _, walk in self.walks)

    @property
    def favoured(self) -> int | None:
        """Tokens, once settled, of the request with the largest tree; None where nobody has one."""
        walk = max((walk for _, walk in self.walks), key=lambda walk: len(walk.tree), default=None)
        return len(walk.tokens) if walk is not None and len(walk.tree) else None

    @property
    def operation(self) -> Operation:
        """What the forward pass is to the latency model."""
        return Operation(self.plan.num_tokens, len(self.plan.context_slots), self.plan.num_rows)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one request gained: the row to commit, why it ends if it does, how many drafted tokens held."""

    generation: Generation
    row: CommitRow
    finish: str | None
    num_accepted: int
    walk: Walk


def build_batch(decoding: Mapping[Generation, TokenTree], chunks: Sequence[tuple[Generation, int]]) -> Batch:
    """Roots with their trees, then prefill chunks; a chunk that ends its prompt draws like a bare root."""
    rows: list[PlanRow] = []
    fed: list[tuple[Generation, int]] = []
    walks: list[tuple[Generation, Walk]] = []
    num_logits = 0
    for generation, tree in decoding.items():
        rows.append(_tree_row(generation, tree))
        fed.append((generation, 1))
        walks.append((generation, _walk(generation, tree, num_logits)))
        num_logits += 1 + len(tree)
    for generation, size in chunks:
        is_last = size == generation.num_pending
        rows.append(_chunk_row(generation, size, is_last=is_last))
        fed.append((generation, size))
        if is_last:
            walks.append((generation, _walk(generation, EMPTY, num_logits)))
            num_logits += 1
    return Batch(build_plan(rows), fed, walks)


def settle_batch(
    batch: Batch,
    logits: npt.NDArray[np.floating[Any]],
    totals: Totals,
    why_bare: Callable[[Generation], str],
) -> tuple[list[Settlement], tuple[Int32, Int32]]:
    """Draw, match and stop; bring every request's context and KV length to the state after the commit.

    ``totals`` are the verifier's after the forward pass; ``why_bare`` tells why a request has no tree.

    Returns the settlements and the (source, destination) slots of accepted nodes, to be moved before the next
    forward. ``logits`` [num_logits, vocab].
    """
    walk_trees(logits, [walk for _, walk in batch.walks])
    for generation, size in batch.fed:
        generation.slots.length += size
    sources, destinations = [EMPTY.tokens], [EMPTY.tokens]
    settlements = []
    for generation, walk in batch.walks:
        try:
            settlement, source, destination = _settle(generation, walk, logits, totals, why_bare)
        except GrammarError as error:
            generation.slots.length = generation.position - 1  # it may have to be told again
            batch.stuck.append((generation, error))
            continue
        settlements.append(settlement)
        sources.append(source)
        destinations.append(destination)
    return settlements, (np.concatenate(sources), np.concatenate(destinations))


def _settle(
    generation: Generation,
    walk: Walk,
    logits: npt.NDArray[np.floating[Any]],
    totals: Totals,
    why_bare: Callable[[Generation], str],
) -> tuple[Settlement, Int32, Int32]:
    if walk.error is not None:
        raise walk.error
    outcome = judge(walk.tokens, generation.num_output, generation.rules, generation.scanner)
    tokens = walk.tokens[: outcome.num_tokens]
    path = walk.path[: len(tokens)]  # a stop may fall inside the accepted path
    root, start_digest = generation.position, generation.digest
    num_top = generation.request.logprobs
    entries = b"" if num_top is None else logprobs.pack(logits[walk.drawn_rows[: len(tokens)]], tokens, num_top)
    generation.extend(tokens, entries)
    nodes = generation.slots.slots(root, root + len(walk.tree))
    generation.slots.length = root + len(path)
    tally = generation.tally
    tally.stepped(
        totals,
        num_nodes=len(walk.tree),
        num_accepted=len(path),
        is_late=generation.speculation.is_late,
        why_bare="" if len(walk.tree) else why_bare(generation),
    )
    event = TokenEvent(
        request=generation.id,
        start=root,
        tokens=np.array(tokens, np.int32),
        digest=generation.digest,
        finish=outcome.finish,
        text_length=outcome.text_length,
        stats=tally.as_stats() if outcome.finish else None,
        error=None,
        logprobs=entries,
        drafted=len(path) if generation.request.inspect else None,
    )
    row = CommitRow(
        request=generation.id,
        epoch=generation.epoch,
        start=root,
        start_digest=start_digest.hex(),
        end=generation.position,
        end_digest=generation.digest.hex(),
        tokens=np.array(tokens, "<u4").tobytes(),
        event=codec.encode(event),
        finish=outcome.finish or "",
        logprobs=entries,
        stats=tally.packed() if outcome.finish or tally.is_to_be_told else b"",
    )
    return Settlement(generation, row, outcome.finish, len(path), walk), nodes[path], nodes[: len(path)]


def _walk(generation: Generation, tree: TokenTree, first_logit: int) -> Walk:
    return Walk(
        tree,
        first_logit,
        generation.params,
        generation.position,
        min_position=generation.num_prompt + generation.rules.min_tokens,
        banned=generation.rules.end_ids,
        adjustment=generation.adjustment,
        matcher=generation.matcher,
        typical=generation.request.typical,
        foresight=generation.foresight,
    )


def _tree_row(generation: Generation, tree: TokenTree) -> PlanRow:
    """The last context token as the root, then the tree's nodes."""
    start, size = generation.slots.length, 1 + len(tree)
    tokens, parents = np.empty((2, size), np.int32)
    (tokens[0],), parents[0] = generation.tokens[start:], -1
    tokens[1:] = tree.tokens
    np.add(tree.parents, 1, out=parents[1:], casting="safe")
    return PlanRow(
        context=generation.slots.slots(0, start),
        tokens=tokens,
        parents=parents,
        slots=generation.slots.slots(start, start + size),
        logits=np.arange(size, dtype=np.int32),
    )


def _chunk_row(generation: Generation, size: int, *, is_last: bool) -> PlanRow:
    start = generation.slots.length
    return chain_row(
        generation.slots.slots(0, start),
        np.array(generation.tokens[start : start + size], np.int32),
        generation.slots.slots(start, start + size),
        last_logits=is_last,
    )
