"""The verifier, writing down what each forward took and what was predicted for it: a probe for experiments.

One line per forward in the file `BENCH_RECORD`, a JSON array: `Step`'s fields in order.
"""

from __future__ import annotations

import json
import time
from typing import NamedTuple, TextIO

from bench.settings import take_record_path
from services.verifier.__main__ import main
from shared.latency_refit import Refit


class Step(NamedTuple):
    """One forward pass; ``at`` is seconds of the machine's monotonic clock, at its end."""

    at: float
    tokens: int
    context_tokens: int
    rows: int
    ms: float
    profile_ms: float  # as the start-up profile predicted
    refit_ms: float  # as the profile corrected by the steps before predicted


def record(file: TextIO) -> None:
    """Let every observed forward of this process leave a line in the file."""
    observe = Refit.observe

    def observed(refit: Refit, tokens: int, context_tokens: int, rows: int, ms: float) -> None:
        profile_ms = refit.profile.predict_ms(tokens, context_tokens=context_tokens, rows=rows)
        refit_ms = refit.predict_ms(tokens, context_tokens=context_tokens, rows=rows)
        step = Step(time.monotonic(), tokens, context_tokens, rows, ms, profile_ms, refit_ms)
        file.write(json.dumps(step) + "\n")
        observe(refit, tokens, context_tokens, rows, ms)

    Refit.observe = observed  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    with take_record_path().open("w", buffering=1) as lines:
        record(lines)
        main()
