"""What the draft proposes and what the target says, as random variables that no system can influence.

Every context has three likely next tokens. It is "easy" (the target nearly always draws the first, Beta(30, 1)) or
"hard" (Beta by hardware); the rest is split by Beta(2, 2). The outcome at every output position is drawn once
per seed, so all systems of a comparison meet the same text, as under sample-and-match.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
WIDTH = 3  # children the draft sees at each node
MISS = WIDTH  # the target draws none of them
EASY_BETA = (30.0, 1.0)
SPLIT_BETA = (2.0, 2.0)
NUM_STRAY = 1 << 16  # contexts off the accepted path: never right, but the selector must judge them


@dataclass(frozen=True, slots=True, kw_only=True)
class Distortion:
    """How the draft's confidence differs from the truth: logit(claimed) = scale·logit(true) + bias + noise."""

    scale: float = 1.0
    bias: float = 0.0
    noise: float = 0.0

    def claim(self, probabilities: Float32, chance: np.random.Generator) -> Float32:
        """What the draft says of each probability."""
        odds = np.log(probabilities / (1 - probabilities))
        odds = self.scale * odds + self.bias + self.noise * chance.standard_normal(probabilities.shape)
        claimed: Float32 = (1 / (1 + np.exp(-odds))).astype(np.float32)
        return claimed


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """How often a draft is right: share of easy contexts, Beta of the others' first child; its errors."""

    easy_share: float
    hard_beta: tuple[float, float]
    distortion: Distortion


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """One seed's world.

    ``choice`` int8 [requests, positions]: rank of the target's token among the draft's, or MISS.
    ``claimed`` float32 [requests, positions, WIDTH]: log-probabilities under the draft on the target's path.
    ``stray`` float32 [NUM_STRAY, WIDTH]: the same for contexts beside it.
    """

    choice: npt.NDArray[np.int8]
    claimed: Float32
    stray: Float32


def draw_text(acceptance: Acceptance, num_requests: int, num_positions: int, seed: int) -> Text:
    """All that happens to ``num_requests`` requests of at most ``num_positions`` output tokens."""
    chance = np.random.default_rng([seed, 1])
    true = _children(acceptance, (num_requests, num_positions), chance)
    stray = _children(acceptance, (NUM_STRAY,), chance)
    uniform = chance.random((num_requests, num_positions, 1), dtype=np.float32)
    choice = (uniform >= np.cumsum(true, axis=-1)).sum(axis=-1).astype(np.int8)
    return Text(
        choice=choice,
        claimed=np.log(acceptance.distortion.claim(true, chance)),
        stray=np.log(acceptance.distortion.claim(stray, chance)),
    )


def _children(acceptance: Acceptance, shape: tuple[int, ...], chance: np.random.Generator) -> Float32:
    """Probabilities of the draft's three children under the target, [*shape, WIDTH]."""
    is_easy = chance.random(shape) < acceptance.easy_share
    first = np.where(is_easy, chance.beta(*EASY_BETA, shape), chance.beta(*acceptance.hard_beta, shape))
    second = (1 - first) * chance.beta(*SPLIT_BETA, shape)
    third = (1 - first - second) * chance.beta(*SPLIT_BETA, shape)
    children: Float32 = np.clip(np.stack([first, second, third], axis=-1), 1e-5, 1 - 1e-5).astype(np.float32)
    return children
