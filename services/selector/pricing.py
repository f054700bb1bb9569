"""What a token is worth to whom, and how many of them to buy. Pure numpy.

Every row has a weight: 1 for a request that is at or behind its schedule, less for one with time to spare. The
nodes of all rows are ordered by weight × path probability, and of that order the prefix is taken that maximises

    rate = Σ weight · expected tokens / period,    period = draft + T(n, S, rows) + overhead.

Where a shape bucket makes T flat, nodes are free and the best prefix reaches its end; where T is steep it may be
no node at all (docs/selection.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.selector.ranking import Float64, Int64, Integers

INDEX_BITS = 31


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Purchase:
    """The nodes bought.

    `taken` int64 [rows] counts them of each row's ranking; `rate` is weighted tokens per ms; `price` what
    verifying the last one cost in the same worth, rate × its ms.
    """

    taken: Int64
    rate: float
    price: float


def buy(
    rows: Int64, values: Float64, order: Int64, weights: Float64, periods_ms: Float64, least: int = 0
) -> Purchase:
    """The prefix of `order` that maximises weighted tokens per ms, at least `least` nodes.

    `rows` and `values` [nodes] are each node's row and weight × path probability, `order` sorts the values, best
    first; `weights` [rows], 0 for rows that draw no token; `periods_ms` [len(order) + 1] is how long an iteration
    takes that verifies so many nodes.
    """
    sorted_values = values[order]
    gains = np.concatenate(([0.0], sorted_values)).cumsum() + weights.sum()
    rates = gains / periods_ms
    least = min(least, len(order))
    best = least + int(rates[least:].argmax())
    return Purchase(
        taken=np.bincount(rows[order[:best]], minlength=len(weights)),
        rate=float(rates[best]),
        price=float(rates[best] * (periods_ms[best] - periods_ms[best - 1])) if best else 0.0,
    )


def best_first(values: Float64) -> Int64:
    """int64 [nodes]: indices in descending value, ties in order. One sort of unique integers, as in `ranking`."""
    last = len(values) - 1
    keys = values.astype(np.float32).view(np.int32).astype(np.int64)  # positive floats order like their bits
    keys <<= INDEX_BITS
    keys |= np.arange(last, -1, -1)
    keys.sort()
    keys &= (1 << INDEX_BITS) - 1
    order: Int64 = last - keys[::-1]
    return order


def schedule_weights(owed: Float64, *, floor: float, horizon: float) -> Float64:
    """[rows] from `floor`, for a request `horizon` tokens or more ahead of its schedule, to 1 for one behind it.

    `owed` [rows] is A(r) of the paper before it is cut at 0: tokens owed at the end of the coming iteration,
    negative when the request is ahead, −inf for best effort. What it is ahead by carries over to the next ones.
    A request behind its schedule weighs no more than one that is just on it, however far it is behind; in the
    paper A(r) grows with the arrears, so that requests beyond rescue eat the budget of those that can be served.
    """
    return floor + (1.0 - floor) * np.clip(1.0 + owed / horizon, 0.0, 1.0)


def worthwhile_depth(
    values: Float64, depths: Int64, *, price: float, level_cost: float, roots: float, drafted: int, max_depth: int
) -> int:
    """How many levels the next round should draft: those whose gain beyond the price of verifying pays their time.

    `values` and `depths` [bought nodes]; `level_cost` is rate × time of one level, `roots` the weight of all rows.
    When all `drafted` levels pay, the next one is judged by extrapolation: gains fall about geometrically.
    """
    drafted = max(drafted, 1)
    gains = np.bincount(depths, weights=values - price, minlength=drafted + 1)[: drafted + 1]
    gains[0] = roots
    best = int(np.concatenate(([0.0], gains[1:] - level_cost)).cumsum().argmax())
    if best == drafted and gains[drafted - 1] > 0.0:
        expected = gains[drafted] ** 2 / gains[drafted - 1]
        best += expected > level_cost
    return int(min(best, max_depth))


def widest_level(offsets: Integers, depths: Int64) -> int:
    """Most nodes that one row has bought of one level; `offsets` [rows + 1] cut `depths` [nodes] into rows."""
    if not depths.size:
        return 0
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return int(np.bincount(rows * (int(depths.max()) + 1) + depths).max())
