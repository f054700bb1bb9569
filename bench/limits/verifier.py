"""The verifier's work on the host in a step of 16 requests: everything of a turn that is not the forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.placement import described
from bench.limits.rig import ACCEPTED, Rig, Turn
from bench.limits.run import Run
from bench.limits.timing import median, percentile, without_collection
from bench.selection_speed import TABLE
from models.paths import TARGET
from shared.telemetry import configure
from shared.tokenizer import load_tokenizer

NUM_REQUESTS = 16
NODES = 12
CONTEXT = 128
ROUNDS = 300
CASES = (("greedy", 0.0), ("temperature 1", 1.0))
VOCABULARIES = (4096, 32_000)  # the embedded target's, and its twin's
HOST = Target(limit=3.0)
FLOAT_BYTES = 4
ROUND_TRIPS = 2  # the replies read, the commit written
PARTS = ("plan", "rows", "accept", "ask", "hear", "commit", "housekeeping")  # of the turn
AHEAD = "ahead"  # done while the ring is waited for


def measure(run: Run) -> Section:
    """Greedy and at temperature 1, with the embedded target's vocabulary and the twin's."""
    figures, notes = [], []
    for (kind, temperature), vocab in product(CASES, VOCABULARIES):
        name = f"{kind}, {vocab} ids"
        turns = _turns(run, temperature, vocab)
        whole, parts = [turn.whole_ms for turn in turns], [turn.parts for turn in turns]
        path = [turn.path_ms for turn in turns]
        drawn_bytes = NUM_REQUESTS * (ACCEPTED + 1) * vocab * FLOAT_BYTES
        floor = Floor(
            name="2 PINGs, drawn logits read",
            value=ROUND_TRIPS * run.typical_ping_us() / 1e3 + run.floors.read_ms(drawn_bytes),
        )
        figures.append(
            Figure(
                name=name,
                unit="ms",
                value=median(whole),
                p99=percentile(whole, 99),
                floor=floor,
                target=HOST,
            )
        )
        figures.append(
            Figure(
                name=f"{name}, on the path", unit="ms", value=median(path), p99=percentile(path, 99), floor=floor
            )
        )
        notes.append(f"{name}: {_parts(parts)}, rest {median(_rest(whole, parts)):.2f} ms; {_ahead(parts)}")
    notes.append("on the path: from the trees' arrival to the commit's answer; the rest while the next are made")
    notes.append("medians by part; commit and hear are round trips to a real Redis, the commit script included")
    return Section(name="verifier", placement=described({"redis": run.redis.pid}), figures=figures, notes=notes)


def _turns(run: Run, temperature: float, vocab: int) -> list[Turn]:
    rounds = run.rounds(ROUNDS)
    with configure("verifier", "bench.1") as telemetry:
        rig = Rig(
            run.redis.url,
            telemetry,
            load_tokenizer(TARGET),
            TABLE,
            num_requests=NUM_REQUESTS,
            num_nodes=NODES,
            vocab_size=vocab,
            context=CONTEXT,
            max_tokens=(ACCEPTED + 1) * (rounds + 60),
            temperature=temperature,
        )
        rig.settle()
        with rig.measured(), without_collection():
            return [rig.turn() for _ in range(rounds + 10)][10:]


def _rest(whole: Sequence[float], parts: Sequence[Mapping[str, float]]) -> list[float]:
    return [ms - sum(spent.get(part, 0.0) for part in PARTS) for ms, spent in zip(whole, parts, strict=True)]


def _ahead(parts: Sequence[Mapping[str, float]]) -> str:
    return f"{median([spent.get(AHEAD, 0.0) for spent in parts]):.2f} while the ring is waited for, not counted"


def _parts(parts: Sequence[Mapping[str, float]]) -> str:
    return ", ".join(f"{name} {median([spent.get(name, 0.0) for spent in parts]):.2f}" for name in PARTS)
