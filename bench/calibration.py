"""What calibration is worth: how far the draft's own and the calibrated probabilities are from what is accepted.

    python -m bench.calibration [--prompts 120] [--tokens 96] [--streams 8] [--budget 96]

One running stack serves two different sets of prompts at temperatures 0, 0.7 and 1.0 in turn. The label counts are
read from Redis after each set; nothing is halved meanwhile. A calibration is fitted to the labels of the first set
alone and judged by those of the second, which it has never seen. Beside it stand the verifier's own counters over
the second set: Σ f(v) of all trees, with the calibration of the second before, and the tokens accepted of them.

ECE is taken within each temperature and averaged over the labels; "pooled" lets errors of opposite sign at
different temperatures cancel. "by chance" is the ECE that perfect predictions would show with as many labels.

Goals: at most half of the raw expected calibration error, and expected within 5 % of accepted tokens.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bench.local import CELL, LocalStack, local_stack
from bench.prompts import source_prompts
from shared.calibration import Calibration
from shared.heartbeat import live_members
from shared.label_store import read_labels, unpack_labels
from shared.labels import Float64, LabelCounts
from shared.reliability import RAW, brier_score, calibration_error, expected_accepted, sampling_error
from shared.streams import connect
from shared.topics import Keys

TEMPERATURES = (0.0, 0.7, 1.0)
BUDGET = 96  # tokens per forward
NEVER_HALVED = 1 << 24
FLUSHED_S = 2.5  # labels leave the verifier once a second
MAX_ERROR_RATIO = 0.5
MAX_DEVIATION = 0.05


def serve(stack: LocalStack, prompts: Sequence[str], num_tokens: int, num_streams: int) -> None:
    """Every prompt at every temperature, ``num_streams`` at a time; returns when the labels are in Redis."""

    def complete(index: int) -> None:
        prompt, temperature = prompts[index // 3], TEMPERATURES[index % 3]
        stack.complete({"prompt": prompt, "max_tokens": num_tokens, "temperature": temperature, "seed": index})

    with ThreadPoolExecutor(num_streams) as pool:
        list(pool.map(complete, range(3 * len(prompts))))
    time.sleep(FLUSHED_S)


def labels(stack: LocalStack) -> LabelCounts:
    """All labels of the stack's pair so far."""
    with contextlib.closing(connect(stack.redis_url)) as client:
        keys = Keys(CELL)
        draft, target = (
            next(iter(live_members(client, keys, kind).values()))["model"] for kind in ("drafter", "verifier")
        )
        return unpack_labels(read_labels(client, keys, f"{draft}:{target}"))


def counter(stack: LocalStack, name: str) -> float:
    """A counter of the verifier."""
    found = re.search(rf"^adaserve_{re.escape(name)} (\S+)$", stack.metrics("verifier"), re.MULTILINE)
    return float(found[1]) if found else 0.0


def counters(stack: LocalStack) -> Float64:
    """Expected raw, expected calibrated and accepted tokens, as the verifier has counted them: [3]."""
    kinds = [counter(stack, f'accepted_expected_total{{kind="{kind}"}}') for kind in ("raw", "calibrated")]
    return np.array([*kinds, counter(stack, "accepted_realised_total")])


def only(counts: LabelCounts, buckets: Sequence[int]) -> LabelCounts:
    """The counts of some temperature buckets."""
    kept = LabelCounts.none()
    kept.labels[buckets], kept.accepted[buckets] = counts.labels[buckets], counts.accepted[buckets]
    return kept


def describe(name: str, counts: LabelCounts, calibrated: Float64) -> str:
    """Three lines of the table: both sides on the same labels."""
    lines = [f"{name}: {counts.num_labels:.0f} labels, {counts.accepted.sum():.0f} accepted"]
    for kind, chances in (("raw", RAW), ("calibrated", calibrated)):
        error, chance = calibration_error(counts, chances), sampling_error(counts, chances)
        share = expected_accepted(counts, chances) / max(counts.accepted.sum(), 1.0)
        lines.append(
            f"{kind:>14}  ECE {error:.4f} (by chance {chance:.4f})  Brier {brier_score(counts, chances):.4f}"
            f"  expected/accepted {share:.3f}"
        )
    return "\n".join(lines)


def report(first: LabelCounts, second: LabelCounts, live: Float64) -> bool:
    """Print both sides; whether the goals are reached."""
    calibrated = Calibration.fit(first).probabilities()
    print(describe("(fitted to)", first, calibrated))
    for bucket in np.flatnonzero(second.labels.any(axis=(1, 2))).tolist():
        print(describe(f"bucket {bucket}", only(second, [bucket]), calibrated))
    print(describe("held out", second, calibrated))
    pooled = [calibration_error(second, chances, pooled=True) for chances in (RAW, calibrated)]
    chance = sampling_error(second, calibrated, pooled=True)
    print(f"pooled over temperatures: ECE raw {pooled[0]:.4f}, calibrated {pooled[1]:.4f}, by chance {chance:.4f}")
    raw, corrected, accepted = live.tolist()
    print(f"all trees: accepted {accepted:.0f}, expected raw {raw:.0f} ({raw / max(accepted, 1):.3f}), ", end="")
    print(f"calibrated {corrected:.0f} ({corrected / max(accepted, 1):.3f})")
    ratio = calibration_error(second, calibrated) / max(calibration_error(second, RAW), 1e-9)
    deviation = abs(corrected / max(accepted, 1) - 1)
    reached = ratio <= MAX_ERROR_RATIO and deviation <= MAX_DEVIATION
    print(f"ECE ratio {ratio:.3f}, goal {MAX_ERROR_RATIO}; expected tokens off by {deviation:.1%}, goal ", end="")
    print(f"{MAX_DEVIATION:.0%}: {'reached' if reached else 'NOT REACHED'}")
    return reached


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the goals are reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=120, help="in each of the two sets")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--streams", type=int, default=8)
    options = parser.parse_args(arguments)
    prompts = source_prompts(2 * options.prompts, seed=11)
    selector = {"POLICY": "paper", "BUDGET": str(BUDGET)}  # so that many edges are judged
    settings = {"verifier": {"MAX_LABELS": str(NEVER_HALVED)}, "selector": selector}
    print("serving two sets of prompts on a stack of its own: a few minutes", file=sys.stderr)
    with local_stack(settings) as stack:
        time.sleep(FLUSHED_S)  # until the verifier has chosen its drafter
        serve(stack, prompts[: options.prompts], options.tokens, options.streams)
        first, before = labels(stack), counters(stack)
        serve(stack, prompts[options.prompts :], options.tokens, options.streams)
        second, after = labels(stack), counters(stack)
    return 0 if report(first, second - first, after - before) else 1


if __name__ == "__main__":
    sys.exit(main())
