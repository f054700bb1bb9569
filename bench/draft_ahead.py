"""How often drafting ahead is right, and what it saves and costs, by the number of nodes that are selected.

    python -m bench.draft_ahead [--prompts 8] [--tokens 64] [--depth 4] [--width 3] [--temperature 0] [--json]

The embedded pair without a bus: the target's tokens are drawn once (they do not depend on the trees), then the
drafter is asked for tree after tree, the nodes of highest path probability count as selected, and the context
grows by what a verification would have accepted. Between two messages all slices run, as beside a slow target. For
each number of nodes the same with draft-ahead and without; every tree must be the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from bench.draft_requests import draft_request
from bench.prompts import source_prompts
from bench.reference import gumbel
from models.paths import DRAFT, TARGET
from services.drafter.drafter import Drafted, Drafter
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.inference.loading import load_model
from shared.inference.plan import build_plan, chain_row
from shared.inference.runner import ModelRunner
from shared.messages import DraftRequest
from shared.tokenizer import load_tokenizer
from shared.tree import ROOT, TokenTree

BUDGETS = (1, 2, 4, 8, 10_000)
BLOCKS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Of one number of selected nodes per request; times are medians of a round, ms."""

    nodes: int
    tokens_per_round: float
    hit_rate: float  # of the rows whose outcomes were drafted from
    levels_spared: float  # of those asked for
    draft_ms: float
    draft_ahead_ms: float
    slices_ms: float


@dataclass(slots=True)
class Told:
    """One request: its prompt, what the target says to it, and how far the rounds have come."""

    prompt: list[int]
    output: list[int]
    done: int = 0
    acknowledged: int = 0

    @property
    def context(self) -> list[int]:
        return self.prompt + self.output[: self.done]


def continuation(runner: ModelRunner, prompt: Sequence[int], count: int, temperature: float) -> list[int]:
    """``count`` tokens of the target after ``prompt``."""
    slots = SequenceSlots(BlockPool(BLOCKS))
    slots.reserve(len(prompt) + count)
    tokens, fed = list(prompt), 0
    while len(tokens) < len(prompt) + count:
        new = np.array(tokens[fed:], np.int32)
        plan = build_plan([chain_row(slots.slots(0, fed), new, slots.slots(fed, len(tokens)), last_logits=True)])
        logits, fed = runner.logits(plan)[0], len(tokens)
        if temperature > 0.0:
            logits = logits / temperature + gumbel(1, len(tokens), len(logits))
        tokens.append(int(logits.argmax()))
    return tokens[len(prompt) :]


def accepted(tree: TokenTree, selected: int, following: Sequence[int]) -> int:
    """Tokens that a verification of the ``selected`` likeliest nodes brings: those on the path, and one more."""
    chosen = set(np.argsort(-tree.logprobs, kind="stable")[:selected].tolist())
    children, node = tree.children(), ROOT
    for count, token in enumerate(following):
        node = children.get((node, token), len(tree))
        if node not in chosen:
            return count + 1
    return len(following)


def rounds(drafter: Drafter, told: Sequence[Told], options: argparse.Namespace, nodes: int) -> list[_Round]:
    """Rounds until the first request has ended."""
    found = []
    while all(len(row.output) - row.done > options.depth + 1 for row in told):
        message = _message(told, options.depth, options.width)
        start = time.perf_counter()
        drafted = drafter.draft(message)
        drafted_ms = (time.perf_counter() - start) * 1e3
        start = time.perf_counter()
        while drafter.has_cold_rows:
            drafter.warm()
        while drafter.ahead.has_work:
            drafter.ahead.advance()
        slices_ms = (time.perf_counter() - start) * 1e3
        gained = 0
        for row, tree in zip(told, drafted.trees, strict=True):
            row.acknowledged = len(row.context)
            count = accepted(tree, nodes, row.output[row.done :])
            row.done += count
            gained += count
        found.append(_Round(drafted, gained / len(told), drafted_ms, slices_ms))
    return found


@dataclass(frozen=True, slots=True)
class _Round:
    drafted: Drafted
    gained: float
    draft_ms: float
    slices_ms: float


def measure(options: argparse.Namespace) -> list[Row]:
    """A row for each of BUDGETS. Raises AssertionError where a tree differs."""
    tokenizer = load_tokenizer(str(DRAFT))
    target = ModelRunner(load_model(str(TARGET), device="cpu", dtype="float32"), BLOCKS * 16)
    prompts = [tokenizer.encode(text, special=True)[:200] for text in source_prompts(options.prompts)]
    outputs = [continuation(target, prompt, options.tokens, options.temperature) for prompt in prompts]
    runner = ModelRunner(load_model(str(DRAFT), device="cpu", dtype="float32"), BLOCKS * 16)
    rows = []
    for nodes in BUDGETS:
        sides = []
        for is_ahead in (False, True):
            drafter = Drafter(runner, BlockPool(BLOCKS), max_tokens=256, catch_up=256, warm_chunk=256)
            drafter.ahead.is_on = is_ahead
            told = [Told(prompt, output) for prompt, output in zip(prompts, outputs, strict=True)]
            sides.append(rounds(drafter, told, options, nodes)[1:])
        plain, ahead = sides
        for one, other in zip(plain, ahead, strict=True):
            for tree, same in zip(one.drafted.trees, other.drafted.trees, strict=True):
                assert tree.tokens.tolist() == same.tokens.tolist()
        tried = np.concatenate([one.drafted.ahead for one in ahead])
        tried = tried[tried >= 0]
        rows.append(
            Row(
                nodes=nodes,
                tokens_per_round=statistics.fmean(one.gained for one in plain),
                hit_rate=float((tried > 0).mean()) if len(tried) else 0.0,
                levels_spared=float(tried.mean()) / options.depth if len(tried) else 0.0,
                draft_ms=statistics.median(one.draft_ms for one in plain),
                draft_ahead_ms=statistics.fmean(one.draft_ms for one in ahead),
                slices_ms=statistics.median(one.slices_ms for one in ahead),
            )
        )
    return rows


def _message(told: Sequence[Told], depth: int, width: int) -> DraftRequest:
    return draft_request(
        [row.context for row in told],
        known=[row.acknowledged for row in told],
        committed=[row.done for row in told],
        depth=depth,
        width=width,
    )


def table(rows: Sequence[Row]) -> str:
    """For people."""
    lines = [
        "| nodes | tokens a round | hit rate | levels spared | draft ms | with draft-ahead | slices ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        nodes = "all" if row.nodes == BUDGETS[-1] else str(row.nodes)
        lines.append(
            f"| {nodes} | {row.tokens_per_round:.2f} | {row.hit_rate:.2f} | {row.levels_spared:.2f} "
            f"| {row.draft_ms:.2f} | {row.draft_ahead_ms:.2f} | {row.slices_ms:.2f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=8, help="requests side by side")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--width", type=int, default=3)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rows = measure(options)
    print(json.dumps([asdict(row) for row in rows]) if options.json else table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
