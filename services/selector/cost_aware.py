"""Our policy: a budget that follows costs, weights that follow schedules, depth that follows worth. Pure.

Goes beyond the paper; each item can be switched off in `PolicySettings`, so that its worth can be shown
(docs/selection.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.selector.control import (
    FIRST_DEPTH,
    LONGEST_MS,
    PolicySettings,
    next_depth,
    next_width,
    prefill_within,
    token_budget,
)
from services.selector.decision import Decision, context_tokens, num_running
from services.selector.pricing import (
    Purchase,
    best_first,
    buy,
    schedule_weights,
    widest_level,
    worthwhile_depth,
)
from services.selector.ranking import Candidates, Float64, Int64, Ranking, rank
from services.selector.selection import ROOT_GAIN, Selection, take
from shared.latency import LatencyModel
from shared.messages import CandidateTrees
from shared.slo import tokens_owed

PASSES = 3  # A(r) depends on the period and the period on what is bought: a fixed point
URGENT_PERIODS = 4  # a first token due within so many iterations gets the whole chunk
PLAIN_OVERHEAD = 0.5  # of an iteration's overhead, planning and commit, is paid by plain steps too
NODES_PER_ROW = 2  # a first guess of what is bought
TOLERANCE = 0.1  # of the period; it moves A(r) by a fraction of a token


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Market:
    """One batch's nodes with what they are likely to give; ``periods_ms`` [nodes + 1] by how many are verified."""

    rows: Int64  # [nodes]
    probabilities: Float64  # [nodes]
    periods_ms: Float64
    least: int
    draws: NDArray[np.bool_]  # [rows]


def decide_cost_aware(
    batch: CandidateTrees, model: LatencyModel, settings: PolicySettings, candidates: Candidates
) -> Decision:
    """The nodes, prompt tokens, depth and width that promise most weighted tokens per ms."""
    num_rows = num_running(batch)
    ranking = rank(candidates)
    prefill_tokens = _prefill_tokens(batch, model, settings, num_rows)
    market = _market(batch, ranking, model, settings, num_rows + prefill_tokens, num_rows)
    weights, owed, bought, period_ms = _bargain(batch, market, settings)
    selection = take(ranking, candidates, bought.taken, late=owed > ranking.depth + ROOT_GAIN)
    return Decision(
        selection=selection,
        budget_used=num_rows + selection.num_nodes,
        predicted_ms=min(period_ms, LONGEST_MS),
        prefill_tokens=prefill_tokens,
        depth=_depth(batch, model, settings, selection, weights, bought, candidates, prefill_tokens),
        width=_width(num_rows, settings, selection, candidates),
        stop_value=bought.rate * min(batch.level_ms, LONGEST_MS) if settings.cost_aware_depth else 0.0,
        weight=weights.astype(np.float32),
        needed=owed,
    )


def _prefill_tokens(batch: CandidateTrees, model: LatencyModel, settings: PolicySettings, num_rows: int) -> int:
    """As many prompt tokens as stretch the iteration by the share in the settings.

    All that are offered, at most the verifier's chunk, when a first token is due within URGENT_PERIODS iterations;
    one that is late already gains nothing by it.
    """
    if not batch.prefill_tokens:
        return 0
    period_ms = _fixed_ms(batch) + _forward_ms(batch, model, num_rows)
    granted = prefill_within(model, num_rows, batch.prefill_tokens, settings.prefill_share * period_ms)
    is_urgent = 0.0 < batch.prefill_slack_ms <= URGENT_PERIODS * period_ms
    return batch.prefill_tokens if settings.prefill_urgency and is_urgent else granted


def _fixed_ms(batch: CandidateTrees) -> float:
    """What the iteration costs besides its forward pass; a corrupted hint may say anything."""
    return min(batch.draft_ms, LONGEST_MS) + min(batch.overhead_ms, LONGEST_MS)


def _forward_ms(batch: CandidateTrees, model: LatencyModel, num_tokens: int) -> float:
    """T without any tree node."""
    return model.predict_ms(max(num_tokens, 1), context_tokens=context_tokens(batch), rows=num_running(batch))


def _market(
    batch: CandidateTrees,
    ranking: Ranking,
    model: LatencyModel,
    settings: PolicySettings,
    num_fed: int,
    num_rows: int,
) -> Market:
    rows = ranking.rows()
    num_nodes = len(rows)
    least = 0
    if not settings.cost_aware_budget:
        least = num_nodes = min(num_nodes, max(token_budget(model, settings) - num_rows, 0))
    periods_ms = _fixed_ms(batch) + model.predict_ms(
        num_fed + np.arange(num_nodes + 1), context_tokens=context_tokens(batch), rows=num_rows
    )
    return Market(
        rows=rows,
        probabilities=ranking.probabilities(np.arange(len(rows))),
        periods_ms=periods_ms,
        least=least,
        draws=~batch.warm,
    )


def _bargain(
    batch: CandidateTrees, market: Market, settings: PolicySettings
) -> tuple[Float64, Float64, Purchase, float]:
    """Weights, tokens owed, the purchase and its period: a fixed point, approached in PASSES passes."""
    target_ms = batch.tpot_ms.astype(np.float64)
    elapsed_ms = batch.elapsed_ms.astype(np.float64)
    earned = np.maximum(batch.committed.astype(np.float64) - 1.0, 0.0)
    guess = min(NODES_PER_ROW * len(target_ms), len(market.periods_ms) - 1)
    period_ms = float(market.periods_ms[guess])
    for _ in range(PASSES):
        owed = tokens_owed(elapsed_ms, period_ms, target_ms, earned)
        weights = market.draws.astype(np.float64)
        if settings.slo_aware:
            weights *= schedule_weights(owed, floor=settings.least_weight, horizon=settings.slack_tokens)
        values = weights[market.rows] * market.probabilities
        order = best_first(values)[: len(market.periods_ms) - 1]
        bought = buy(market.rows, values, order, weights, market.periods_ms, market.least)
        expected_ms, period_ms = period_ms, float(market.periods_ms[int(bought.taken.sum())])
        if abs(period_ms - expected_ms) <= TOLERANCE * period_ms:
            break
    return weights, owed, bought, period_ms


def _depth(
    batch: CandidateTrees,
    model: LatencyModel,
    settings: PolicySettings,
    selection: Selection,
    weights: Float64,
    bought: Purchase,
    candidates: Candidates,
    prefill_tokens: int,
) -> int:
    if not settings.cost_aware_depth:
        return next_depth(num_running(batch), token_budget(model, settings), settings)
    if not candidates.num_nodes:
        return _unseen_depth(batch, settings)
    if settings.plain_decoding and bought.rate <= _plain_rate(batch, model, weights, prefill_tokens):
        return 0
    rows = np.repeat(np.arange(len(weights)), np.diff(selection.offsets))
    values = weights[rows] * np.exp(np.minimum(candidates.logprobs[selection.nodes], 0.0).astype(np.float64))
    depth = worthwhile_depth(
        values,
        candidates.forest.depths[selection.nodes],
        price=bought.price,
        level_cost=bought.rate * min(batch.level_ms, LONGEST_MS),
        roots=float(weights.sum()),
        drafted=batch.depth,
        max_depth=settings.max_depth,
    )
    return max(depth, 0 if settings.plain_decoding else settings.min_depth)


def _width(num_rows: int, settings: PolicySettings, selection: Selection, candidates: Candidates) -> int:
    """One slot more per level than any row had bought: nodes that nobody buys are not drafted again.

    Within eq. 9, what the drafter holds in one step, a slot costs next to nothing, so any purchase keeps it.
    """
    width = next_width(num_rows, settings)
    if not settings.cost_aware_width or not candidates.num_nodes:
        return width
    return min(width, widest_level(selection.offsets, candidates.forest.depths[selection.nodes]) + 1)


def _plain_rate(batch: CandidateTrees, model: LatencyModel, weights: Float64, prefill_tokens: int) -> float:
    """Weighted tokens per ms of a step with the same prompts that neither drafts nor waits for the ring."""
    overhead_ms = PLAIN_OVERHEAD * min(batch.overhead_ms, LONGEST_MS)
    num_fed = num_running(batch) + prefill_tokens
    return float(weights.sum()) / (_forward_ms(batch, model, num_fed) + overhead_ms)


def _unseen_depth(batch: CandidateTrees, settings: PolicySettings) -> int:
    """Without candidates there is nothing to judge.

    Before requests decode the next ones start afresh; and a drafter that is not ready yet will be.
    """
    if not num_running(batch):
        return min(FIRST_DEPTH, settings.max_depth)
    return min(max(batch.depth, 1), settings.max_depth)
