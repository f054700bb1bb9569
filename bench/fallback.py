"""What failing drafts cost: throughput without any drafter, and with one that proposes random tokens.

    python -m bench.fallback [--rounds 5] [--streams 8] [--tokens 128] [--target DIR --draft DIR]

One stack. First drafter and selector are killed under load, and started again: no request may fail or answer
otherwise, and speculation is back within 5 s of their being ready. Then the drafter is killed for good: rounds
with speculation asked for against speculation switched off; goal: 95 % of the throughput. Then one starts whose
tokens are random: verifications until the verifier is in full verification mode (goal: 50 iterations), switches in
a minute of load (goal: at most 3), and how long it takes until it speculates again after the draft has healed.
Output is compared with plain decoding's all along.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.breaker import tokens_per_second
from bench.local import DRAFT, TARGET, LocalStack, local_stack
from bench.prompts import source_prompts
from bench.replay.counters import parse, total
from shared import signals

THROUGHPUT_GOAL, ITERATIONS_GOAL, SWITCHES_GOAL = 0.95, 50, 3
BACK_GOAL_S = 5.0
MINUTE_S = 60.0
HEALING_S = 120.0


def mode_of(stack: LocalStack) -> dict[str, Any]:
    """How the one verifier decodes now, and why."""
    (now,) = stack.get("/admin/mode")["verifiers"].values()
    return dict(now)


def counted(stack: LocalStack, name: str, **labels: str) -> int:
    """A counter of the verifier."""
    return int(total(parse(stack.metrics("verifier")), f"{name}_total", **labels))


def killed_and_back(stack: LocalStack, prompts: Sequence[str]) -> tuple[float, float, int, int]:
    """Seconds from start to ready, from ready to the first tree verified; requests meanwhile, and wrong ones."""
    body = {"max_tokens": 100, "temperature": 0, "ignore_eos": True}
    expected = [stack.complete({"prompt": prompt, **body})["choices"] for prompt in prompts]
    stopping, outcomes = threading.Event(), []

    def ask(number: int) -> None:
        while not stopping.is_set():
            try:
                answer = stack.complete({"prompt": prompts[number], **body})["choices"]
            except Exception as error:  # whatever it is, the client got no answer
                answer = repr(error)
            outcomes.append(answer == expected[number])

    with ThreadPoolExecutor(len(prompts)) as pool:
        asking = [pool.submit(ask, number) for number in range(len(prompts))]
        try:
            time.sleep(1.0)
            stack.kill("drafter")
            stack.kill("selector")
            time.sleep(3.0)
            started = time.monotonic()
            stack.start("selector")
            stack.start("drafter")
            stack.wait_ready("drafter", "selector")
            ready = time.monotonic()
            before = counted(stack, signals.STEPS.name, kind="speculative")
            while counted(stack, signals.STEPS.name, kind="speculative") == before:
                if time.monotonic() - ready > HEALING_S:
                    break
                time.sleep(0.05)
            back = time.monotonic()
        finally:
            stopping.set()
        for each in asking:
            each.result()
    return ready - started, back - ready, len(outcomes), outcomes.count(False)


def without_drafter(stack: LocalStack, prompts: Sequence[str], rounds: int, num_tokens: int) -> float:
    """Median of the paired ratios."""
    stack.kill("drafter")
    time.sleep(3.0)  # until its heartbeat is gone and the verifier has noticed
    ratios = []
    for _ in range(rounds):
        on = tokens_per_second(stack, prompts, num_tokens, speculation=True)
        off = tokens_per_second(stack, prompts, num_tokens, speculation=False)
        ratios.append(on / off)
        print(f"no drafter   {on:7.1f} tokens/s   speculation off {off:7.1f} tokens/s   ratio {on / off:.3f}")
    print(f"mode without a drafter: {mode_of(stack)['mode']}, {mode_of(stack)['reason']}")
    return statistics.median(ratios)


def with_random_tokens(
    stack: LocalStack, prompts: Sequence[str], healed: Path
) -> tuple[int, int, float | None, bool]:
    """Speculative steps before the switch, switches in a minute, seconds to heal, whether output was the same."""
    stack.environment = {**stack.environment, "BENCH_HEALED": str(healed)}
    stack.start("drafter", "bench.random_drafter")
    stack.wait_ready("drafter")
    while mode_of(stack)["mode"] != "speculative":  # a drafter's arrival is no switch that its draft has caused
        time.sleep(0.1)
    spoiled = counted(stack, signals.STEPS.name, kind="speculative")
    switches = counted(stack, signals.MODE_SWITCHES.name)
    body = {"max_tokens": 200, "temperature": 0, "ignore_eos": True}
    plain = [
        stack.complete({"prompt": p, **body, "adaserve": {"speculation": {"enabled": False}}}) for p in prompts
    ]
    same = True
    start, iterations = time.monotonic(), None
    with ThreadPoolExecutor(len(prompts)) as pool:
        while time.monotonic() - start < MINUTE_S:
            answers = list(pool.map(lambda prompt: stack.complete({"prompt": prompt, **body}), prompts))
            same &= [a["choices"] for a in answers] == [a["choices"] for a in plain]
            if iterations is None and mode_of(stack)["reason"] == "acceptance_collapse":
                iterations = counted(stack, signals.STEPS.name, kind="speculative") - spoiled
        in_a_minute = counted(stack, signals.MODE_SWITCHES.name) - switches
        healed.touch()
        healing = time.monotonic()
        while mode_of(stack)["mode"] != "speculative" and time.monotonic() - healing < HEALING_S:
            list(pool.map(lambda prompt: stack.complete({"prompt": prompt, **body}), prompts))
        took_s = time.monotonic() - healing if mode_of(stack)["mode"] == "speculative" else None
    return iterations if iterations is not None else sys.maxsize, in_a_minute, took_s, same


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--draft", default=DRAFT)
    options = parser.parse_args(arguments)
    prompts = source_prompts(options.streams, seed=3)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ada-draft-")))
        # The paper's policy: it speculates whatever it costs, so that a bad draft is left to the watch alone.
        running = stack.enter_context(
            local_stack(
                {"selector": {"POLICY": "paper"}, "verifier": {"DTYPE": "float64"}},
                target=options.target,
                draft=options.draft,
            )
        )
        start_s, back_s, num_asked, num_wrong = killed_and_back(running, prompts)
        ratio = without_drafter(running, prompts, options.rounds, options.tokens)
        iterations, switches, healing_s, same = with_random_tokens(running, prompts, folder / "healed")
    holds = {
        f"drafter and selector killed: {num_wrong} of {num_asked} requests failed or differed, goal 0": num_wrong
        == 0,
        f"ready {start_s:.1f} s after their start, speculating {back_s:.1f} s later, goal {BACK_GOAL_S:g} s": (
            back_s <= BACK_GOAL_S
        ),
        f"without a drafter {ratio:.3f} of the throughput of speculation off, goal {THROUGHPUT_GOAL}": (
            ratio >= THROUGHPUT_GOAL
        ),
        f"random tokens: full verification after {iterations} speculative steps, goal {ITERATIONS_GOAL}": (
            iterations <= ITERATIONS_GOAL
        ),
        f"{switches} switches in a minute, goal {SWITCHES_GOAL}": switches <= SWITCHES_GOAL,
        f"speculating again {'never' if healing_s is None else f'{healing_s:.1f} s'} after healing": (
            healing_s is not None
        ),
        f"output {'the same as' if same else 'NOT'} plain decoding's": same,
    }
    for text, reached in holds.items():
        print(f"{text}: {'reached' if reached else 'NOT REACHED'}")
    return 0 if all(holds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
