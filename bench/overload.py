"""What overload does to a real stack: goodput, refusals, recovery; and a flooding tenant against an urgent class.

    python -m bench.overload [--paced] [--seconds 6] [--rounds 3] [--running 8] [--tokens 16] [--seed 1]
                             [--target DIR --draft DIR]

First the capacity is measured, with as many requests at a time as the verifier has places, and from it the targets
(twice the TPOT that a full server gives) and the queue's limit (a second of work). Then, from one run:

1. open-loop (Poisson) load of 0.5, 1, 2, 5 and again 0.5 times the capacity: goodput of each step against the best
   one, latency of refusals with what Retry-After said, and how long after the last step requests were refused or
   missed their targets more than in the first step. Beside the refusals, what the same gateway takes meanwhile for
   /live, which does nothing. In rounds, of which the medians count, as the machine is not equally fast always;
2. an urgent class at half the capacity, alone and beside a tenant that floods up to three times the capacity.

Load, gateway, Redis and models share the machine: latencies contain each other's work. With --paced (from a
checkout) a step takes its time asleep, as on an accelerator of its own, and the models are tables: what is
measured then is the system around them.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.local import DRAFT, TARGET, LocalStack, local_stack
from bench.open_load import OK, TOO_MANY, Answer, Ask, offer, poisson, probe
from bench.prompts import source_prompts

LOADS = (0.5, 1.0, 2.0, 5.0, 0.5)
GOODPUT_GOALS = {2.0: 0.90, 5.0: 0.85}
REFUSAL_GOAL_MS, RECOVERY_GOAL_S, URGENT_GOAL = 20.0, 30.0, 0.99
SLACK = 2.0  # targets over what a full server gives
TTFT_MS = 3000.0
QUEUE_S = 1.0
PACED = {"verifier": "tests.faults.table_verifier", "drafter": "tests.faults.table_drafter"}
PROBE_S = 0.1
ATTAINMENT_SLACK = 0.02  # less than in the first step is still normal

POLICY = """
classes:
  urgent: {{tpot_ms: {tpot_ms:.2f}, ttft_ms: {ttft_ms:.0f}, tier: 0}}
  chat:   {{tpot_ms: {tpot_ms:.2f}, ttft_ms: {ttft_ms:.0f}, tier: 1}}
  batch:  {{tier: 3}}
tenants:
  default: {{classes: [urgent, chat, batch], default: chat}}
  flood:   {{classes: [chat], default: chat}}
"""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of a full server: requests per second, and the 95th percentile of their TPOT."""

    requests_per_s: float
    tpot_ms: float


def body(chance: random.Random, tokens: int, service_class: str | None) -> dict[str, Any]:
    """A completion of so many tokens, give or take a half."""
    (prompt,) = source_prompts(1, seed=chance.randrange(1 << 30), max_chars=200)
    return {
        "prompt": prompt,
        "max_tokens": chance.randint(tokens // 2, tokens + tokens // 2),
        "seed": chance.randrange(1 << 30),
        "ignore_eos": True,
        "adaserve": {} if service_class is None else {"slo": {"class": service_class}},
    }


def mixed(chance: random.Random, tokens: int) -> Ask:
    """A fifth urgent, a fifth best effort."""
    (service_class,) = chance.choices(["urgent", "chat", "batch"], [1, 3, 1])
    return Ask(body(chance, tokens, service_class), "default")


def urgent(chance: random.Random, tokens: int) -> Ask:
    return Ask(body(chance, tokens, "urgent"), "default")


def flood(chance: random.Random, tokens: int) -> Ask:
    return Ask(body(chance, tokens, "chat"), "flood")


def measure_capacity(stack: LocalStack, running: int, tokens: int, seconds: float, seed: int) -> Capacity:
    """One request after the other in every place."""
    deadline = time.monotonic() + seconds

    def client(number: int) -> list[float]:
        chance, tpots = random.Random(f"{seed} {number}"), []
        while time.monotonic() < deadline:
            tpots.append(stack.complete(body(chance, tokens, None))["metrics"]["slo"]["tpot_ms"])
        return tpots

    with ThreadPoolExecutor(running) as pool:
        tpots = [tpot for found in pool.map(client, range(running)) for tpot in found]
    return Capacity(len(tpots) / seconds, percentile(tpots, 0.95))


def percentile(values: Sequence[float], part: float) -> float:
    """Nearest rank; NaN of nothing."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)] if values else math.nan


def goodput(answers: Sequence[Answer], seconds: float) -> float:
    """Output tokens per second of requests that attained their targets."""
    return sum(answer.tokens for answer in answers if answer.met) / seconds


def attainment(answers: Sequence[Answer]) -> float:
    """Of all requests with a target, also those refused."""
    judged = [bool(answer.met) for answer in answers if answer.status != OK or answer.met is not None]
    return statistics.fmean(judged) if judged else math.nan


def recovery_s(answers: Sequence[Answer], normal: float) -> float:
    """From when on targets are attained as they normally are, within ATTAINMENT_SLACK; the whole time if they
    never are."""
    ordered = sorted(answers, key=lambda answer: answer.arrived_s)
    for start, answer in enumerate(ordered):
        if attainment(ordered[start:]) >= normal - ATTAINMENT_SLACK:
            return answer.arrived_s if start else 0.0
    return ordered[-1].arrived_s


def refusals(answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.status == TOO_MANY]


def row(load: float, answers: Sequence[Answer], seconds: float) -> str:
    """A line about one step."""
    refused = refusals(answers)
    latency = [1_000 * answer.took_s for answer in refused]
    wait = [answer.retry_after_s for answer in refused]
    done = [answer for answer in answers if answer.status == OK]
    codes = Counter(answer.code or str(answer.status) for answer in answers if answer.status != OK)
    drafted = statistics.fmean(answer.drafted for answer in done) if done else math.nan
    return (
        f"{load:4.1f}x {len(answers):5d} asked {len(done):5d} served"
        f"  goodput {goodput(answers, seconds):7.1f} tokens/s  attained {attainment(done):6.1%} of served"
        f"  TPOT p50 {percentile([a.tpot_ms for a in done], 0.5):6.2f} ms  drafted {drafted:5.2f} a token"
        f"  refusals p50 {percentile(latency, 0.5):5.1f} p99 {percentile(latency, 0.99):6.1f} ms"
        f"  Retry-After p50 {percentile(wait, 0.5):5.2f} s  {dict(codes)}"
    )


async def probed(port: int, arrivals: Sequence[tuple[float, Ask]]) -> tuple[list[Answer], list[float]]:
    """The answers, and what /live took meanwhile, in seconds."""
    probing = asyncio.create_task(probe(port, PROBE_S))
    answers = await offer(port, arrivals)
    probing.cancel()
    return answers, await probing


def load_steps(port: int, rate: float, tokens: int, seconds: float, seed: int) -> list[list[Answer]]:
    """One after the other; each ends when its last request is answered."""
    steps = []
    for number, load in enumerate(LOADS):
        answers, live = asyncio.run(
            probed(port, poisson(load * rate, seconds, partial(mixed, tokens=tokens), seed + number))
        )
        machine = f"  /live p50 {1_000 * percentile(live, 0.5):.1f} p99 {1_000 * percentile(live, 0.99):.1f} ms"
        print(row(load, answers, seconds) + machine, flush=True)
        steps.append(answers)
    return steps


def judge_steps(rounds: Sequence[Sequence[Sequence[Answer]]], seconds: float) -> bool:
    """Print the figures with their goals; whether all are met. ``rounds`` of steps of answers."""
    rates = [
        statistics.median(goodput(answers, seconds) for answers in step) for step in zip(*rounds, strict=True)
    ]
    verdicts = []
    for load, rate in zip(LOADS, rates, strict=True):
        if load in GOODPUT_GOALS:
            ratio = rate / max(rates)
            verdicts.append(ratio >= GOODPUT_GOALS[load])
            print(f"goodput at {load:g}x: {ratio:.1%} of the best step (goal {GOODPUT_GOALS[load]:.0%})")
    refused = [answer.took_s for steps in rounds for answer in refusals(steps[LOADS.index(5.0)])]
    p99_ms = 1_000 * percentile(refused, 0.99)
    recovery = max(recovery_s(steps[-1], attainment(steps[0])) for steps in rounds)
    lost = sum(answer.status not in (OK, TOO_MANY) for steps in rounds for step in steps for answer in step)
    print(f"refusals at 5x: p99 {p99_ms:.1f} ms (goal {REFUSAL_GOAL_MS:g} ms)")
    print(
        f"back to normal {recovery:.1f} s after the load fell (goal {RECOVERY_GOAL_S:g} s); other errors: {lost}"
    )
    return all([*verdicts, p99_ms <= REFUSAL_GOAL_MS, recovery <= RECOVERY_GOAL_S, lost == 0])


def flooded(port: int, rate: float, tokens: int, seconds: float, seed: int) -> bool:
    """The urgent class alone, then beside the flood; whether it keeps its attainment."""
    calm = poisson(0.5 * rate, seconds, partial(urgent, tokens=tokens), seed)
    alone = asyncio.run(offer(port, calm))
    both = sorted(
        [*calm, *poisson(2.5 * rate, seconds, partial(flood, tokens=tokens), seed + 1)],
        key=lambda arrival: arrival[0],
    )
    answers = asyncio.run(offer(port, both))
    beside = [answer for answer in answers if answer.ask.tenant == "default"]
    others = [answer for answer in answers if answer.ask.tenant == "flood"]
    print(row(0.5, alone, seconds) + "  urgent alone")
    print(row(0.5, beside, seconds) + "  urgent beside the flood")
    print(row(2.5, others, seconds) + "  the flood")
    ratio = attainment(beside) / attainment(alone)
    print(f"urgent attainment {attainment(alone):.1%} alone, {attainment(beside):.1%} at 3x: {ratio:.1%} of it")
    print(f"(goal {URGENT_GOAL:.0%})")
    return ratio >= URGENT_GOAL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each step")
    parser.add_argument("--rounds", type=int, default=3, help="of all steps")
    parser.add_argument("--running", type=int, default=8, help="places of the verifier")
    parser.add_argument("--tokens", type=int, default=16, help="of an answer, on average")
    parser.add_argument("--paced", action="store_true", help="table models that take their time asleep")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--draft", default=DRAFT)
    chosen = parser.parse_args()
    verifier = {"verifier": {"MAX_RUNNING": str(chosen.running), "TARGET": chosen.target}}
    with (
        tempfile.TemporaryDirectory() as folder,
        local_stack(
            verifier, target=chosen.target, draft=chosen.draft, modules=PACED if chosen.paced else None
        ) as stack,
    ):
        measure_capacity(stack, chosen.running, chosen.tokens, 3.0, chosen.seed)  # what is learned at the start
        capacity = measure_capacity(stack, chosen.running, chosen.tokens, chosen.seconds, chosen.seed)
        policy = Path(folder) / "policy.yaml"
        policy.write_text(POLICY.format(tpot_ms=SLACK * capacity.tpot_ms, ttft_ms=TTFT_MS))
        limit = max(4, round(QUEUE_S * capacity.requests_per_s))
        settings = {"TARGET": chosen.target, "POLICY_FILE": str(policy), "QUEUE_LIMIT": str(limit)}
        stack.restart("gateway", settings)
        stack.wait_ready("gateway")
        print(
            f"capacity {capacity.requests_per_s:.1f} requests/s, TPOT p95 {capacity.tpot_ms:.2f} ms, "
            f"target {SLACK * capacity.tpot_ms:.2f} ms, queue of {limit} a tier"
        )
        port, rate = stack.ports["gateway"], capacity.requests_per_s
        seeds = range(chosen.seed, chosen.seed + 10 * chosen.rounds, 10)
        kept = judge_steps(
            [load_steps(port, rate, chosen.tokens, chosen.seconds, seed) for seed in seeds], chosen.seconds
        )
        kept &= flooded(port, rate, chosen.tokens, chosen.rounds * chosen.seconds, chosen.seed + 100)
    print("all goals met" if kept else "NOT all goals met")
    sys.exit(not kept)


if __name__ == "__main__":
    main()
