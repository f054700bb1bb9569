"""Gumbel noise keyed by (seed, position, token id), and which id wins with it.

The winner is found without the noise of most ids: it needs two logarithms, while one look at an id's hash tells
whether its noise could be large enough. Whose is, the `Loud` ones, can be known before there are logits. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
UInt64 = npt.NDArray[np.uint64]

_MASK = 2**64 - 1
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # of splitmix64
_BITS = 52  # of a uniform
# Noise from uniforms of so many bits lies in [-3.6, 36.8]: an id this far below the best can never be drawn.
MOST_NOISE = 36.8
NOISE_SPAN = 41.0
_HEAD = 9.0  # ids at most so far below the best get their noise first; any value gives the same winner
LOUD = 5.0  # noise of 7 ids in 1,000; any value gives the same winner
_FEW_NEAR = 256  # ids whose noise is found sooner than that of the loud ones is added; any value, the same winner
_FEW = 16  # ids that Python's own integers hash sooner than numpy's
_SLACK = 1 << 20  # of 2^52, far beyond what rounding does to a threshold
_ROUNDING = 1e-9  # of totals, and more
_BELOW, _LEAST = 2.0**-22, 2.0**-148  # more than float32 rounds a number by, and one that is almost nothing


@dataclass(frozen=True, slots=True)
class Loud:
    """Every id below ``num_ids`` whose noise at a position is LOUD or more, rising, and its noise: [loud ids].

    No id's noise is above ``most``.
    """

    num_ids: int
    ids: npt.NDArray[np.intp]
    noise: Float64
    most: float


def winner(
    logits: npt.NDArray[np.floating[Any]], temperature: float, seed: int, position: int, known: Loud | None = None
) -> int:
    """The id of the largest logit / temperature + noise, the smallest of several. ``logits`` [vocab]: one finite,
    float32 or float64.

    With the loud ones ``known``, few others are looked at; without, all are hashed. The id is the same.
    """
    key = _key(seed, position)
    if known is not None and known.num_ids == len(logits):
        found = _winner_of_known(logits, temperature, key, known)
        if found is not None:
            return found
    best = float(logits.max())
    edge = logits.dtype.type(best - _HEAD * temperature)
    (head,) = (logits >= edge).nonzero()
    total, first = _best(logits, head, _noise(key, head), best, temperature)
    # Who is not near the best needs noise beyond a threshold that the near ones set.
    needed = total + (best - float(edge)) / temperature
    if needed > MOST_NOISE or len(head) == len(logits):
        return -first
    (tail,) = (_hash(key, len(logits)) >= np.uint64(_least_hash(needed))).nonzero()
    return -max((total, first), _best(logits, tail, _noise(key, tail), best, temperature))[1]


def _winner_of_known(
    logits: npt.NDArray[np.floating[Any]], temperature: float, key: int, known: Loud
) -> int | None:
    """The winner is the best id, loud, or so near the best that it makes up for noise below LOUD.

    Where few are near enough for the loudest noise, one look at the logits finds all of these. None where
    rounding, at extreme temperatures, does not let that be told.
    """
    top = int(logits.argmax())
    best = float(logits[top])
    own = _noise_of(key, top)
    is_near = _near(logits, best, known.most - own, temperature)
    if is_near is None:
        return None
    num_near = np.count_nonzero(is_near)
    if num_near == 1:
        return top
    if num_near <= _FEW_NEAR:
        return -_best_of(logits, is_near, key, best, temperature)[1]
    found = max((own, -top), _best(logits, known.ids, known.noise, best, temperature))
    is_near = _near(logits, best, LOUD - found[0], temperature)  # of those that are not loud
    return None if is_near is None else -max(found, _best_of(logits, is_near, key, best, temperature))[1]


def _near(
    logits: npt.NDArray[np.floating[Any]], best: float, reach: float, temperature: float
) -> npt.NDArray[np.bool_] | None:
    """Ids whose logit is at most ``reach`` of noise below the best, and the best one: bool [vocab].

    None where rounding could leave one out.
    """
    reach = max(reach, 0.0) + _ROUNDING
    edge = best - reach * temperature
    edge -= abs(edge) * _BELOW + _LEAST  # the comparison rounds it to the logits' precision: not up
    if not (best - edge) / temperature > reach - _ROUNDING / 2:
        return None
    is_near: npt.NDArray[np.bool_] = logits >= edge
    return is_near


def _best_of(
    logits: npt.NDArray[np.floating[Any]],
    among: npt.NDArray[np.bool_],
    key: int,
    best: float,
    temperature: float,
) -> tuple[float, int]:
    """`_best` of the ids that ``among`` [vocab] marks."""
    (ids,) = among.nonzero()
    return _best(logits, ids, _noise(key, ids), best, temperature)


def _best(
    logits: npt.NDArray[np.floating[Any]],
    ids: npt.NDArray[np.intp],
    noise: Float64,
    best: float,
    temperature: float,
) -> tuple[float, int]:
    """The largest total among ``ids``, rising, and the smallest id that has it, negative: larger is better."""
    if len(ids) == 0:
        return -math.inf, 0
    # Relative before the division: the quotient by a tiny temperature then overflows downwards only.
    with np.errstate(over="ignore"):
        totals = (logits[ids].astype(np.float64) - best) / temperature + noise
    first = totals.argmax()
    return float(totals[first]), -int(ids[first])


def loud(seed: int, position: int, num_ids: int) -> Loud:
    """The loud ones of a position: 7 of 1,000."""
    key = _key(seed, position)
    (ids,) = (_hash(key, num_ids) >= np.uint64(_least_hash(LOUD))).nonzero()
    noise = _noise(key, ids)
    return Loud(num_ids, ids, noise, float(noise.max(initial=LOUD)))


def _least_hash(noise: float) -> int:
    """What the hash of every id has at least whose noise is ``noise`` or more.

    The last step of the hash leaves its upper half as it is, so it is left out where only such a threshold is
    asked about. Therefore this ends in zeros.
    """
    uniform = math.exp(-math.exp(-max(noise, -4.0)))
    steps = max(0, math.floor(uniform * 2.0**_BITS) - _SLACK)
    return (steps << (64 - _BITS)) & ~(2**33 - 1)


def _hash(key: int, num_ids: int) -> UInt64:
    """mix(key xor id) without its last step, of every id: uint64 [num_ids], right in its upper 31 bits."""
    values = _all_ids(num_ids) ^ np.uint64(key)
    shifted = np.empty_like(values)
    values += np.uint64(_STEP)
    values ^= np.right_shift(values, np.uint64(30), out=shifted)
    values *= np.uint64(_FIRST)
    values ^= np.right_shift(values, np.uint64(27), out=shifted)
    values *= np.uint64(_SECOND)
    return values


@lru_cache(maxsize=4)
def _all_ids(num_ids: int) -> UInt64:
    ids = np.arange(num_ids, dtype=np.uint64)
    ids.flags.writeable = False
    return ids


def gumbel_noise(seed: int, position: int, ids: npt.NDArray[np.integer[Any]]) -> Float64:
    """Standard Gumbel noise, float64 [ids]: -ln(-ln u), u = ((h >> 12) + 1/2) / 2^52.

    h = mix(mix(mix(seed) xor position) xor id), mix = splitmix64.
    """
    return _noise(_key(seed, position), ids)


def _noise_of(key: int, id_: int) -> float:
    """`_noise` of one id, to the last bit: the logarithm is numpy's too."""
    uniform = ((_mix_scalar(key ^ id_) >> 64 - _BITS) + 0.5) * 2.0**-_BITS
    return float(-np.log(-np.log(uniform)))


def _noise(key: int, ids: npt.NDArray[np.integer[Any]]) -> Float64:
    if len(ids) <= _FEW:
        hashes = [_mix_scalar(key ^ id_) >> 64 - _BITS for id_ in ids.tolist()]
        steps = np.array(hashes, np.float64)
    else:
        steps = (_mix(np.uint64(key) ^ ids.astype(np.uint64)) >> np.uint64(64 - _BITS)).astype(np.float64)
    uniform = (steps + 0.5) * 2.0**-_BITS
    noise: Float64 = -np.log(-np.log(uniform))
    return noise


def _key(seed: int, position: int) -> int:
    return _mix_scalar(_mix_scalar(seed) ^ position)


def _mix_scalar(value: int) -> int:
    """splitmix64 of one number: the increment, then the finalizer (Steele, Lea, Flood 2014)."""
    value = (value + _STEP) & _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def _mix(values: UInt64) -> UInt64:
    """splitmix64 of every value; numpy wraps unsigned products as the algorithm wants."""
    values = values + np.uint64(_STEP)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_FIRST)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_SECOND)
    return values ^ (values >> np.uint64(31))
