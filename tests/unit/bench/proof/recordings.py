"""Recorded replays whose figures are known, made up for the tests of the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.replay.recording import Event, RecordedRequest, RecordedRun, Recording, ServerSample

TOKENS = 101


def request(at_s: float, *, met: bool | None = True, accepted: int = 0, **fields: Any) -> RecordedRequest:
    """10 ms a token, 101 of them; ``met`` None has no target."""
    first_ms = 1_000 * at_s + 1
    known: dict[str, Any] = {
        "tenant": "acme",
        "category": "chat",
        "arrival_ms": 1_000 * at_s,
        "prompt_tokens": 99,
        "tokens": TOKENS,
        "first_ms": first_ms,
        "last_ms": first_ms + 10 * (TOKENS - 1),
        "tpot_target_ms": {True: 20.0, False: 5.0, None: None}[met],
        "steps": accepted,
        "drafted": 2 * accepted,
        "accepted": accepted,
    }
    return RecordedRequest(**{**known, **fields})


def run(
    met: Sequence[bool | None], *, seed: int = 0, target_s: float = 10.0, draft_s: float = 0.0, accepted: int = 0
) -> RecordedRun:
    """A request a second, with the services' figures at the start and at the end."""
    end = {"target_s": target_s, "draft_s": draft_s, "select_s": 0.0, "calibration_error": 0.02}
    return RecordedRun(
        seed=seed,
        started_at=1_700_000_000.0,
        requests=[request(float(at), met=one, accepted=accepted) for at, one in enumerate(met)],
        samples=[ServerSample(at_s=0.0, values={}), ServerSample(at_s=float(len(met)), values=end)],
        events=[Event(at_s=1.0, what="<b>swapped</b>")],
    )


def recording(*runs: RecordedRun, system: str = "speculation", **fields: Any) -> Recording:
    return Recording(trace="made up", model="tiny", system=system, runs=list(runs), **fields)
