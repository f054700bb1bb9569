"""From scheduling decisions to one forward pass, and from its logits to what is committed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from struct import pack
from typing import Any

import numpy as np
import numpy.typing as npt

from services.verifier.acceptance import Walk, walk_trees
from services.verifier.generation import Generation
from services.verifier.stopping import Outcome, judge
from services.verifier.tally import Totals
from shared import codec, logprobs
from shared.errors import GrammarError
from shared.inference.plan import ForwardPlan, PlanColumns, pack_plan
from shared.latency_refit import Operation
from shared.messages import TokenEvent
from shared.records import CommitRow
from shared.tree import EMPTY, TokenTree

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_NONE = EMPTY.tokens
_ABOVE_ROOT = np.array([-2], np.int16)


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
    fed = [(generation, 1) for generation in decoding] + list(chunks)
    drawing = list(decoding.items())
    drawing += [(generation, EMPTY) for generation, size in chunks if size == generation.num_pending]
    first_logits = [0, *accumulate(1 + len(tree) for _, tree in drawing)]
    walks = [
        (generation, _walk(generation, tree, first))
        for (generation, tree), first in zip(drawing, first_logits, strict=False)
    ]
    return Batch(pack_plan(_columns(decoding, chunks)), fed, walks)


def _columns(decoding: Mapping[Generation, TokenTree], chunks: Sequence[tuple[Generation, int]]) -> PlanColumns:
    """Of a tree's row the last context token is the root, its tree's nodes follow; a chunk's row is a chain."""
    rows = [(generation, 1 + len(tree)) for generation, tree in decoding.items()] + list(chunks)
    tokens, contexts, slots = [_NONE], [_NONE], [_NONE]
    above: list[npt.NDArray[np.integer[Any]]] = []  # the parents, less one
    pending = [generation.tokens[generation.slots.length :] for generation in decoding]
    roots = np.array(pending, np.int32).reshape(len(decoding), 1)  # or they would not be decoding
    for root, tree in zip(roots, decoding.values(), strict=True):
        tokens += (root, tree.tokens)
        above += (_ABOVE_ROOT, tree.parents)
    for generation, size in chunks:
        start = generation.slots.length
        tokens.append(np.array(generation.tokens[start : start + size], np.int32))
        above.append(np.arange(-2, size - 2, dtype=np.int32))
    for generation, size in rows:
        start = generation.slots.length
        contexts.append(generation.slots.slots(0, start))
        slots.append(generation.slots.slots(start, start + size))
    sizes = np.array([size for _, size in rows], np.int64)
    logit_counts = sizes.copy()
    logit_counts[len(decoding) :] = [size == generation.num_pending for generation, size in chunks]
    return PlanColumns(
        context=np.concatenate(contexts),
        committed=np.array([generation.slots.length for generation, _ in rows], np.int64),
        sizes=sizes,
        written=np.zeros(len(rows), np.int64),
        tokens=np.concatenate(tokens),
        parents=np.concatenate([_NONE, *above], dtype=np.int64) + 1,
        slots=np.concatenate(slots),
        logits=_last(sizes, logit_counts),
        logit_counts=logit_counts,
    )


def _last(sizes: Int64, counts: Int64) -> Int64:
    """Of each row the indices of its last ``counts`` nodes, one row after the other."""
    ends = counts.cumsum()
    logits: Int64 = np.arange(counts.sum()) + (sizes - ends).repeat(counts)
    return logits


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
    sources, destinations = [_NONE], [_NONE]
    settlements = []
    for generation, walk in batch.walks:
        try:
            settlement = _settle(generation, walk, logits, totals, why_bare)
        except GrammarError as error:
            generation.slots.length = generation.position - 1  # it may have to be told again
            batch.stuck.append((generation, error))
            continue
        settlements.append(settlement)
        if settlement.num_accepted:
            root, path = settlement.row.start, walk.path[: settlement.num_accepted]
            nodes = generation.slots.slots(root, root + len(walk.tree))
            sources.append(nodes[path])
            destinations.append(nodes[: len(path)])
    return settlements, (np.concatenate(sources), np.concatenate(destinations))


def _settle(
    generation: Generation,
    walk: Walk,
    logits: npt.NDArray[np.floating[Any]],
    totals: Totals,
    why_bare: Callable[[Generation], str],
) -> Settlement:
    if walk.error is not None:
        raise walk.error
    outcome = judge(walk.tokens, generation.num_output, generation.rules, generation.scanner)
    tokens = walk.tokens[: outcome.num_tokens]
    num_accepted = min(len(walk.path), len(tokens))  # a stop may fall inside the accepted path
    root, start_digest = generation.position, generation.digest
    num_top = generation.request.logprobs
    entries = b"" if num_top is None else logprobs.pack(logits[walk.drawn_rows[: len(tokens)]], tokens, num_top)
    generation.extend(tokens, entries)
    generation.slots.length = root + num_accepted
    tally, num_nodes = generation.tally, len(walk.tree)
    tally.stepped(
        totals,
        num_nodes=num_nodes,
        num_accepted=num_accepted,
        is_late=generation.speculation.is_late,
        why_bare="" if num_nodes else why_bare(generation),
    )
    packed = pack(f"<{len(tokens)}I", *tokens)
    row = CommitRow(
        request=generation.id,
        epoch=generation.epoch,
        start=root,
        start_digest=start_digest.hex(),
        end=generation.position,
        end_digest=generation.digest.hex(),
        tokens=packed,
        event=_event(generation, root, packed, entries, outcome, num_accepted),
        finish=outcome.finish or "",
        logprobs=entries,
        stats=tally.packed() if outcome.finish or tally.is_to_be_told else b"",
    )
    return Settlement(generation, row, outcome.finish, num_accepted, walk)


def _event(
    generation: Generation, start: int, tokens: bytes, entries: bytes, outcome: Outcome, num_accepted: int
) -> bytes:
    """What the gateway is told, encoded; ``tokens`` are uint32 LE."""
    is_inspected = generation.request.inspect
    if outcome.finish is None and not entries and not is_inspected:
        return codec.encode_gained(request=generation.id, start=start, tokens=tokens, digest=generation.digest)
    event = TokenEvent(
        request=generation.id,
        start=start,
        tokens=np.frombuffer(tokens, np.int32),
        digest=generation.digest,
        finish=outcome.finish,
        text_length=outcome.text_length,
        stats=generation.tally.as_stats() if outcome.finish else None,
        error=None,
        logprobs=entries,
        drafted=num_accepted if is_inspected else None,
    )
    return codec.encode(event)


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
