"""AdaServe beside what a user would run instead: tokens per second of the same greedy tokens, in one run.

    python -m bench.peers [--rounds 5] [--tokens 64] [--batch 8] [--threads 2] [--draft-threads 1]
                          [--peers transformers OpenVINO llama.cpp] [--vocab 32000] [--environment .tools]
                          [--tune-tokens 32] [--json]

The target is `bench.twin`, float32 everywhere; the draft is the embedded one. AdaServe is the real stack with
Redis and four processes, asked over HTTP; a peer is a process of its own, timed around its own call, ids in and
ids out. In every round each contestant decodes the same prompts (`bench.prompts`) to the same number of tokens,
one stream and then a batch; who is first changes. Prefill is within the time, prefix caches are off. A speculating
peer has the fastest of several depths, its default among them, found on other prompts; AdaServe's selector chooses
its own.

Every answer is compared with plain AdaServe's; where one parts, stock transformers tells how far the two tokens'
logits are apart, and so whose error it is. A peer that cannot be run here is named, with the reason. Exit code 0
when no difference is an error of AdaServe's and the goals for one stream hold: plainly at least `generate` and 0.9
of OpenVINO, with speculation ahead of all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bench.enlargement import TwinShape
from bench.local import DRAFT, LocalStack, local_stack
from bench.peers.contestants import Contestant, Ours, Peer, PeerError, Process
from bench.peers.environment import Environment, Pair
from bench.peers.result import (
    PLAIN,
    SPECULATING,
    Row,
    as_json,
    differences_told,
    goals,
    losses,
    table,
)
from bench.peers.rounds import Gap, Prompt, compete, rows, tune
from bench.prompts import source_prompts
from bench.twin import cached_twin
from shared.errors import AdaServeError
from shared.inference.loading import load_model
from shared.tokenizer import load_tokenizer

PROMPT_TOKENS = 160
WARM_UP = 2  # prompts
NAMES = ("transformers", "OpenVINO", "llama.cpp")
SPECULATION = {"transformers": "assisted", "OpenVINO": "with draft model", "llama.cpp": "with draft model"}


def prompts_of(target: Path, count: int) -> list[Prompt]:
    """Token ids."""
    tokenizer = load_tokenizer(target)
    return [tokenizer.encode(text, special=False)[:PROMPT_TOKENS] for text in source_prompts(count, seed=3)]


@contextlib.contextmanager
def started(
    pair: Pair, environment: Environment, names: Sequence[str]
) -> Iterator[tuple[dict[str, Process], dict[str, str]]]:
    """The peers that run here, and the reasons of those that do not."""
    processes: dict[str, Process] = {}
    skipped: dict[str, str] = {}
    try:
        for name in names:
            try:
                processes[name] = environment.starts[name](pair)
            except (PeerError, OSError) as error:
                skipped[name] = str(error)
        yield processes, skipped
    finally:
        for process in processes.values():
            process.stop()


def logit_gap(target: Path) -> Gap:
    """By stock transformers in float32, loaded when it is first needed."""
    loaded: list[Any] = []

    @torch.inference_mode()
    def gap(context: Sequence[int], ours: int, other: int) -> float:
        if not loaded:
            loaded.append(load_model(str(target), device="cpu", dtype="float32"))
        logits = loaded[0](torch.tensor([list(context)])).logits[0, -1]
        return float(logits[ours] - logits[other])

    return gap


def contestants_of(stack: LocalStack, processes: dict[str, Process]) -> list[Contestant]:
    """Plain ones and speculating ones, for a single stream."""
    ours = [Ours(PLAIN, stack, False), Ours(SPECULATING, stack, True)]
    peers = [
        peer
        for name, process in processes.items()
        for peer in (Peer(name, process), Peer(f"{name} {SPECULATION[name]}", process, True))
    ]
    return [*ours, *peers]


def measure(
    contestants: Sequence[Contestant], options: argparse.Namespace, target: Path, say: Callable[[str], None]
) -> dict[str, list[Row]]:
    """The rows for one stream and for a batch."""
    prompts = prompts_of(target, WARM_UP + options.rounds * options.batch)
    warm_up, prompts = prompts[:WARM_UP], prompts[WARM_UP:]
    gap = logit_gap(target)
    for one in contestants:
        if one.speculates and isinstance(one, Peer):
            tune(one, warm_up, options.tune_tokens)
            say(f"{one.name}: depth {one.depth} is the fastest for it")
        else:
            for prompt in warm_up:
                one.decode([prompt], options.tune_tokens)
    found: dict[str, list[Row]] = {}
    batches = [prompts[start : start + options.batch] for start in range(0, len(prompts), options.batch)]
    # Assisted generation takes one stream. node-llama-cpp exchanges tokens between the streams of a batch.
    many = [
        one for one in contestants if one.name.startswith(("AdaServe", "OpenVINO")) or one.name == "transformers"
    ]
    stages = {"one stream": (contestants, [batch[:1] for batch in batches])}
    if options.batch > 1:
        stages[f"batch of {options.batch}"] = (many, batches)
    for stage, (competing, asked) in stages.items():
        if len(asked[0]) > 1:
            for one in competing:
                one.decode(asked[0], 4)
        answers = compete(competing, asked, options.tokens, say)
        found[stage] = rows(competing, answers, asked, gap)
    return found


def describe(found: dict[str, list[Row]], skipped: dict[str, str]) -> list[str]:
    """Lines for people."""
    lines = [f"not run here: {name}: {reason}" for name, reason in skipped.items()]
    for stage, of_stage in found.items():
        lines += ["", f"{stage}:", "", *table(of_stage), ""]
        lines += differences_told(of_stage)
        lines += losses(of_stage) or [f"{stage}: nobody here is faster than AdaServe"]
    for goal in goals(found["one stream"]):
        word = "reached" if goal.is_met else "NOT REACHED"
        lines.append(f"{goal.ours} at least {goal.least:g} × {goal.peer}: {goal.found:.2f}, {word}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the goals hold, 2 for options that do not fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8, help="1 leaves the batch out; default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of every contestant; default: %(default)s")
    parser.add_argument("--draft-threads", type=int, default=1, help="of AdaServe's drafter; default: %(default)s")
    parser.add_argument("--peers", nargs="*", choices=NAMES, default=NAMES)
    parser.add_argument("--vocab", type=int, default=TwinShape().vocab, help="of the twin; default: %(default)s")
    parser.add_argument("--environment", type=Path, default=Path(".tools"))
    parser.add_argument("--tune-tokens", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.tokens, options.batch, options.threads, options.draft_threads) < 1:
        parser.error("--rounds, --tokens, --batch, --threads and --draft-threads must be at least 1")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        pair = Pair(cached_twin(TwinShape(vocab=options.vocab)), Path(DRAFT), options.threads)
        settings = {
            "verifier": {"THREADS": str(options.threads), "PREFIX_CACHE": "false"},
            "drafter": {"THREADS": str(options.draft_threads)},
        }
        environment = Environment(options.environment.resolve())
        with started(pair, environment, options.peers) as (processes, skipped):
            for name, reason in skipped.items():
                console.print(f"not run here: {name}: {reason}")
            with local_stack(settings, target=str(pair.target), draft=str(pair.draft)) as stack:
                found = measure(contestants_of(stack, processes), options, pair.target, console.print)
        versions = {name: process.versions for name, process in processes.items()}
    except AdaServeError as error:
        parser.error(str(error))
    for line in describe(found, skipped):
        console.print(line, markup=False)
    all_rows = [row for of_stage in found.values() for row in of_stage]
    holds = all(row.clears_us for row in all_rows) and all(goal.is_met for goal in goals(found["one stream"]))
    if options.json:
        told = {
            "machine": {"cores": len(os.sched_getaffinity(0))},
            "target": pair.target.name,
            "threads": options.threads,
            "draft_threads": options.draft_threads,
            "tokens": options.tokens,
            "rounds": options.rounds,
            "versions": versions,
            "skipped": skipped,
            "stages": {stage: as_json(of_stage) for stage, of_stage in found.items()},
            "losses": {stage: losses(of_stage) for stage, of_stage in found.items()},
            "holds": holds,
        }
        print(json.dumps(told))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
