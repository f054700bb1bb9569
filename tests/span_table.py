"""What each kind of span must say, as a table: attribute, and what its value must be like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shared import signals as s

Check = Callable[[Any], bool]


def number(low: float, high: float) -> Check:
    return lambda value: type(value) in (int, float) and low <= value <= high


def one_of(*values: object) -> Check:
    return lambda value: value in values


def text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def flag(value: Any) -> bool:
    return isinstance(value, bool)


COUNT, MS, MAYBE_MS = number(0, 10_000), number(0.001, 120_000), number(0, 120_000)
MODES = one_of("speculative", "full_verification")
OUTCOMES = one_of("speculative", "plain", "missed", "void")

ATTRIBUTES: Mapping[str, Mapping[str, Check]] = {
    s.GATEWAY_REQUEST: {
        s.GEN_AI_OPERATION: one_of("text_completion", "chat"),
        s.GEN_AI_PROVIDER: one_of("adaserve"),
        s.GEN_AI_REQUEST_MODEL: text,
        s.GEN_AI_RESPONSE_ID: text,
        s.GEN_AI_MAX_TOKENS: number(1, 1 << 20),
        s.GEN_AI_TEMPERATURE: number(0, 2),
        s.GEN_AI_INPUT_TOKENS: number(1, 10_000),
        s.GEN_AI_CACHED_TOKENS: COUNT,
        s.GEN_AI_OUTPUT_TOKENS: number(1, 10_000),
        s.GEN_AI_FINISH_REASONS: one_of(["length"], ["stop"]),
        s.HTTP_METHOD: one_of("POST"),
        s.HTTP_ROUTE: one_of("/v1/completions", "/v1/chat/completions"),
        s.SERVER_ADDRESS: text,
        s.REQUEST_ID: text,
        s.TENANT: text,
        s.TIER: number(0, 3),
        s.SLO_CLASS: one_of("custom"),
        s.SLO_TPOT_MS: number(1, 10_000),
        s.SLO_MET: flag,
        s.TPOT_MS: MS,
        s.TTFT_MS: MS,
        s.QUEUE_MS: MAYBE_MS,
        s.NUM_STEPS: number(1, 10_000),
        s.NUM_SPEC_STEPS: COUNT,
        s.NUM_ACCEPTED: COUNT,
    },
    s.GATEWAY_DELIVER: {s.HOP_WAIT_MS: MAYBE_MS, s.MAX_HOP_WAIT_MS: MAYBE_MS},
    s.VERIFIER_QUEUE: {s.TIER: number(0, 3), s.QUEUE_MS: MAYBE_MS, s.POSITION: COUNT, s.IS_TAKE_OVER: flag},
    s.VERIFIER_PREFILL: {
        s.NUM_CHUNKS: number(1, 1_000),
        s.GEN_AI_INPUT_TOKENS: number(1, 10_000),
        s.GEN_AI_CACHED_TOKENS: COUNT,
        s.MODE: MODES,
    },
    s.VERIFIER_PREFILL_CHUNK: {
        s.CHUNK_TOKENS: number(1, 10_000),
        s.NUM_ROWS: number(1, 1_000),
        s.NUM_TOKENS: number(1, 10_000),
        s.PREDICTED_MS: MS,
        s.MEASURED_MS: MS,
    },
    s.VERIFIER_ITERATION: {
        s.MODE: MODES,
        s.MODE_REASON: lambda value: isinstance(value, str),
        s.OUTCOME: OUTCOMES,
        s.POSITION: number(1, 10_000),
        s.COMMITTED_TOKENS: number(1, 65),
        s.NUM_ACCEPTED: COUNT,
        s.MEASURED_MS: MS,
    },
    s.DRAFTER_DRAFT: {
        s.DEPTH: number(0, 64),
        s.WIDTH: number(1, 64),
        s.NUM_NODES: COUNT,
        s.DRAFT_STATE: one_of("drafted", "need_context", "no_room"),
        s.HOP_WAIT_MS: MAYBE_MS,
    },
    s.SELECTOR_SELECT: {
        s.SLO_NEED: number(-10_000, 10_000),
        s.SLO_WEIGHT: number(0, 1),
        s.SLO_LATE: flag,
        s.NUM_NODES: COUNT,
        s.NUM_SELECTED: COUNT,
        s.NUM_SLO_NODES: COUNT,
        s.NUM_THROUGHPUT_NODES: COUNT,
        s.DEPTH: number(0, 64),
        s.BUDGET: number(1, 10_000),
        s.BUDGET_SHARE: number(0.0001, 1),
        s.PREDICTED_MS: MS,
        s.HOP_WAIT_MS: MAYBE_MS,
    },
    s.VERIFIER_VERIFY: {
        s.POSITION: number(1, 10_000),
        s.COMMITTED_TOKENS: number(1, 65),
        s.NUM_NODES: COUNT,
        s.NUM_ACCEPTED: COUNT,
        s.NUM_EXPECTED: COUNT,
        s.NUM_ROWS: number(1, 1_000),
        s.NUM_TOKENS: number(1, 10_000),
        s.PREDICTED_MS: MS,
        s.MEASURED_MS: MS,
        s.HOP_WAIT_MS: MAYBE_MS,
    },
    s.VERIFIER_COMMIT: {},
}

BATCHES: Mapping[str, Mapping[str, Check]] = {
    s.DRAFTER_BATCH: {s.NUM_ROWS: number(1, 1_000), s.NUM_NODES: COUNT, s.DEPTH: COUNT, s.HOP_WAIT_MS: MAYBE_MS},
    s.SELECTOR_BATCH: {
        s.NUM_ROWS: number(1, 1_000),
        s.NUM_SELECTED: COUNT,
        s.BUDGET: number(1, 10_000),
        s.PREDICTED_MS: MS,
        s.HOP_WAIT_MS: MAYBE_MS,
    },
    s.VERIFIER_STEP: {s.NUM_ROWS: number(1, 1_000), s.NUM_TOKENS: number(1, 10_000), s.MEASURED_MS: MS},
}


def complaints(name: str, attributes: Mapping[str, Any]) -> list[str]:
    """What one span lacks or says oddly; nothing for kinds that the tables do not have."""
    table = {**ATTRIBUTES, **BATCHES}.get(name, {})
    missing = [f"{name} lacks {attribute}" for attribute in table if attribute not in attributes]
    return missing + [
        f"{name}: {attribute} is {attributes[attribute]!r}"
        for attribute, is_plausible in table.items()
        if attribute in attributes and not is_plausible(attributes[attribute])
    ]
