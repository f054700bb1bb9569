"""Ring messages to bytes and back, at 64 requests of 24 nodes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.placement import described
from bench.limits.run import Run
from bench.limits.timing import Call, in_rounds, median, percentile, scaled
from bench.limits.workload import candidate_trees, draft_request, selected_trees
from shared.codec import decode, encode
from shared.messages import Message

NUM_REQUESTS = 64
ROUNDS = 2000
ENCODE_US, DECODE_US = 20.0, 60.0


def measure(run: Run) -> Section:
    """Encoding, and decoding with every check; the floor is a copy of the same bytes in the same rounds."""
    messages: Mapping[str, Message] = {
        "DraftRequest": draft_request(NUM_REQUESTS),
        "CandidateTrees": candidate_trees(NUM_REQUESTS),
        "SelectedTrees": selected_trees(NUM_REQUESTS),
    }
    bodies = {name: encode(message) for name, message in messages.items()}
    calls: dict[str, Call] = {}
    for name, message in messages.items():
        calls[f"copy {name}"] = partial(bytearray, bodies[name])
        calls[f"encode {name}"] = partial(encode, message)
        calls[f"decode {name}"] = partial(decode, type(message), bodies[name])
    times = {name: scaled(spent, 1e6) for name, spent in in_rounds(calls, run.rounds(ROUNDS)).items()}
    figures = []
    for verb, limit in (("encode", ENCODE_US), ("decode", DECODE_US)):
        for name in messages:
            spent = times[f"{verb} {name}"]
            figures.append(
                Figure(
                    name=f"{verb} {name}",
                    unit="µs",
                    value=median(spent),
                    p99=percentile(spent, 99),
                    floor=Floor(name=f"copy of {len(bodies[name])} bytes", value=median(times[f"copy {name}"])),
                    target=Target(limit=limit),
                )
            )
    return Section(name="codec", placement=described(), figures=figures, notes=["decode checks every field"])
