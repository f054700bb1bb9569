"""How well the verifier predicts what its forward passes take, on a quiet machine and beside a busy neighbour.

    python -m bench.latency_error [--seconds 20] [--clients 12] [--neighbours 1] [--target D --draft D] [--json]

A real stack serves mixed traffic, first alone, then beside spinning processes. For every forward of the
verifier the measured time is compared with two predictions made before it: of the start-up profile alone, and of
the profile refitted to the steps before. Medians of relative errors; beside them that of one model fitted in
hindsight to all steps of the phase: its error is what the operation does not explain, and only a refit can beat
it, where the machine changes within the phase.

Goal: at most 10 % with the refit, and back within 50 steps of the neighbour's arrival (the median over a sliding
window of 20 steps): at 10 %, or, where time slices make the same pass take so different times that hindsight
misses that, at hindsight's error.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.local import DRAFT, TARGET, local_stack
from bench.recorded_verifier import Step
from bench.traffic import mixed_traffic
from shared.latency_fit import Sample, fit

GOAL, WINDOW, MOST_STEPS = 0.10, 20, 50
LONGEST_S = 120.0
SETTLING_S = 2.0  # until clients and drafter are at work


@dataclass(frozen=True, slots=True)
class Phase:
    """Median relative errors over one phase's steps, and how the steps' times spread."""

    name: str
    steps: int
    median_ms: float
    profile_error: float
    refit_error: float
    hindsight_error: float


def phase(name: str, steps: Sequence[Step]) -> Phase:
    """The figures of one phase."""
    hindsight = fit([*(Sample(*step[1:5]) for step in steps), *_anchors(steps)])
    fitted = [
        abs(hindsight.predict_ms(step.tokens, context_tokens=step.context_tokens, rows=step.rows) / step.ms - 1)
        for step in steps
    ]
    return Phase(
        name=name,
        steps=len(steps),
        median_ms=statistics.median(step.ms for step in steps),
        profile_error=statistics.median(abs(step.profile_ms / step.ms - 1) for step in steps),
        refit_error=statistics.median(abs(step.refit_ms / step.ms - 1) for step in steps),
        hindsight_error=statistics.median(fitted),
    )


def _anchors(steps: Sequence[Step]) -> list[Sample]:
    """A curve begins at one token, which mixed traffic may never have."""
    fastest = min(step.ms for step in steps)
    return [] if any(step.tokens == 1 for step in steps) else [Sample(1, 0, 1, fastest)]


def steps_until_close(steps: Sequence[Step], goal: float) -> int | None:
    """After how many of the steps the median error over the last WINDOW of them is within the goal."""
    errors = [abs(step.refit_ms / step.ms - 1) for step in steps]
    ends = range(WINDOW, len(errors) + 1)
    return next((end for end in ends if statistics.median(errors[end - WINDOW : end]) <= goal), None)


@contextmanager
def busy_neighbours(count: int) -> Iterator[None]:
    """So many spinning processes, for LONGEST_S at most."""
    spinners = [
        multiprocessing.get_context("spawn").Process(
            target=_spin, args=(time.monotonic() + LONGEST_S,), daemon=True
        )
        for _ in range(count)
    ]
    for spinner in spinners:
        spinner.start()
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.terminate()
            spinner.join()


def _spin(until: float) -> None:
    while time.monotonic() < until:
        sum(range(10_000))


def recorded_steps(
    target: str, draft: str, seconds: float, clients: int, neighbours: int, threads: int
) -> tuple[list[Step], float, float]:
    """All steps of the experiment, when the quiet phase began and when the neighbours came."""
    with tempfile.TemporaryDirectory(prefix="ada-steps-") as folder:
        path = Path(folder) / "steps.jsonl"
        settings = {"verifier": {"THREADS": str(threads)}}
        with local_stack(settings, target=target, draft=draft, environment={"BENCH_RECORD": str(path)}) as stack:
            stack.kill("verifier")
            stack.start("verifier", "bench.recorded_verifier")
            stack.wait_ready("verifier")
            time.sleep(SETTLING_S)  # until the killed verifier is forgotten
            with mixed_traffic(stack, clients, seed=11):
                time.sleep(SETTLING_S)
                start = time.monotonic()
                time.sleep(seconds)
                with busy_neighbours(neighbours):
                    arrival = time.monotonic()
                    time.sleep(seconds)
        return [Step(*json.loads(line)) for line in path.read_text().splitlines()], start, arrival


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the goals are reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase, at most 60")
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--neighbours", type=int, default=1, help="spinning processes beside the stack")
    parser.add_argument(
        "--threads", type=int, default=1, help="of the verifier; with all cores it feels one neighbour"
    )
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--draft", default=DRAFT)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    load = os.getloadavg()[0]  # what others do on this machine is in every figure
    seconds = min(options.seconds, LONGEST_S / 2)
    steps, start, arrival = recorded_steps(
        options.target, options.draft, seconds, options.clients, options.neighbours, options.threads
    )
    beside = [step for step in steps if arrival <= step.at < arrival + seconds]
    phases = [phase("quiet", [step for step in steps if start <= step.at < arrival]), phase("busy", beside)]
    floor = max(GOAL, phases[1].hindsight_error)
    strictly, back = steps_until_close(beside, GOAL), steps_until_close(beside, floor)
    was_felt = phases[1].profile_error > GOAL  # else the neighbour shows nothing
    holds = phases[0].refit_error <= GOAL and was_felt and back is not None and back <= MOST_STEPS
    if options.json:
        figures = {
            "load": load,
            "phases": [asdict(each) for each in phases],
            "steps_until_goal": strictly,
            "steps_until_floor": back,
        }
        print(json.dumps({**figures, "holds": holds}))
    else:
        print(
            f"load average before the start {load:.1f}, {options.neighbours} neighbours on {os.cpu_count()} cores"
        )
        for each in phases:
            print(describe(each))
        print(f"error over {WINDOW} steps within {GOAL:.0%} again after {strictly} steps, within {floor:.1%}")
        print(f"(the goal, or hindsight's error where that is more) after {back}; goal {MOST_STEPS}")
        if not was_felt:
            print("the start-up profile was still right beside the neighbours: they show nothing")
        print(f"goals {'reached' if holds else 'NOT REACHED'}")
    return 0 if holds else 1


def describe(each: Phase) -> str:
    """One line for people."""
    return (
        f"{each.name:6} {each.steps:5} steps, median {each.median_ms:6.2f} ms; median error: start-up profile "
        f"{each.profile_error:6.1%}, refit {each.refit_error:6.1%}, hindsight {each.hindsight_error:6.1%}"
    )


if __name__ == "__main__":
    sys.exit(main())
