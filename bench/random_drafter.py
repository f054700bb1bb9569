"""The drafter with a draft that has gone wrong: the tokens it proposes are random, its probabilities as they were.

It heals when the file `BENCH_HEALED` exists.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.settings import take_healed_path
from services.drafter.__main__ import main
from services.drafter.expansion import Expansion


def randomize(healed: Path) -> None:
    """Let every level of this process grow random tokens, until the file is there."""
    grow = Expansion.grow
    chance = np.random.default_rng(0)

    def grown(expansion: Expansion, tokens: Any, logprobs: Any) -> None:
        if not healed.exists():
            tokens = chance.integers(0, max(int(tokens.max(initial=1)), 2), tokens.shape)
        grow(expansion, tokens, logprobs)

    Expansion.grow = grown  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    randomize(take_healed_path())
    main()
