"""Typical acceptance, which is not lossless: a drafted token is kept that the target finds likely enough.

Of Medusa (arXiv 2401.10774, section 2.3.1): x is accepted if p(x) > min(ε, δ exp(−H(p))), with p the target's own
processed distribution at the node, H its entropy in nats, and δ = √ε as there. So where the target is sure little
is accepted but its own choice, and where many tokens would do a drafted one of them is.

Here the token that the target draws goes first: only where the tree does not have it, the likeliest child that is
typical takes its place. At temperature 0 the target's distribution has one token, and nothing else is accepted.
Outputs then depend on the tree, so that repeating, resuming elsewhere after a loss, or decoding plainly may give
others: only requests that ask for it and whose tenant may are decoded so. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from services.verifier.sampling import Draw, probabilities


def typical_child(
    logits: npt.NDArray[np.floating[Any]], draw: Draw, children: Iterable[int], threshold: float
) -> int | None:
    """The likeliest of the ids ``children`` that is typical, None where none is. ``logits`` [vocab]; 0 < ε ≤ 1."""
    ids, probs = probabilities(logits, draw)
    known = dict(zip(ids.tolist(), probs.tolist(), strict=True))
    least = min(threshold, sqrt(threshold) * float(np.exp(-entropy(probs))))
    typical = [(known[child], -child) for child in children if known.get(child, 0.0) > least]
    return -max(typical)[1] if typical else None


def entropy(probs: npt.NDArray[np.float64]) -> float:
    """In nats; what is impossible adds nothing."""
    possible = probs[probs > 0]
    return float(-(possible * np.log(possible)).sum())
