"""What a finished request cost and how fast it was: `usage` and `metrics` of a reply (docs/api.md). Pure.

Token times are those of the commits, on Redis' clock; the time to the first token is the client's, from the
arrival of its request at this gateway to the arrival of the first token there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.gateway.slo import Slo
from shared import slo as slo_rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One request's figures, in ms. ``stats`` are the verifier's; ``ttft_ms`` is None without any token.

    ``acceptance`` is how drafted tokens could be accepted, ``tpot_raised_from_ms`` the target that the tenant's
    policy did not allow, None for none.
    """

    prompt_tokens: int
    output_tokens: int
    ttft_ms: float | None
    first_ms: float | None
    last_ms: float | None
    stats: Mapping[str, float]
    slo: Slo
    tpot_raised_from_ms: float | None = None
    acceptance: str = "exact"

    @property
    def generation_ms(self) -> float:
        """From the first to the last commit."""
        if self.first_ms is None or self.last_ms is None:
            return 0.0
        return max(0.0, self.last_ms - self.first_ms)

    @property
    def tpot_ms(self) -> float:
        """Time per output token, 0 below two tokens."""
        return slo_rules.tpot_ms(0.0, self.generation_ms, self.output_tokens)

    @property
    def has_target(self) -> bool:
        return math.isfinite(self.slo.tpot_ms) or math.isfinite(self.slo.ttft_ms)

    @property
    def met(self) -> bool | None:
        """Whether the request attained its SLO; None without one."""
        if not self.has_target:
            return None
        ttft = math.inf if self.ttft_ms is None else self.ttft_ms
        return slo_rules.attained(
            tpot=self.tpot_ms, tpot_target=self.slo.tpot_ms, ttft=ttft, ttft_target=self.slo.ttft_ms
        )

    @property
    def missed_by(self) -> str:
        """The target that a request that has not attained its SLO was late for: tpot, ttft or both."""
        is_slow = self.tpot_ms > self.slo.tpot_ms
        is_late = self.ttft_ms is None or self.ttft_ms > self.slo.ttft_ms
        return "both" if is_slow and is_late else "tpot" if is_slow else "ttft"

    def usage(self) -> dict[str, Any]:
        """Token counts; the stop token is one of the completion's."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.prompt_tokens + self.output_tokens,
            "prompt_tokens_details": {"cached_tokens": int(self.stats.get("num_cached_tokens", 0))},
        }

    def metrics(self) -> dict[str, Any]:
        """Under vLLM's names where it has one, so that its tools read them."""
        return {
            "time_to_first_token_ms": _rounded(self.ttft_ms),
            "generation_time_ms": _rounded(self.generation_ms),
            "queue_time_ms": _rounded(self.stats.get("queue_ms")),
            "mean_itl_ms": _rounded(self.tpot_ms),
            "tokens_per_second": _rounded(1_000 / self.tpot_ms) if self.tpot_ms > 0 else None,
            "speculative_decoding": self._speculation(),
            "acceptance": self.acceptance,
            "slo": {
                "class": self.slo.name,
                "tpot_target_ms": _rounded(self.slo.tpot_ms),
                "ttft_target_ms": _rounded(self.slo.ttft_ms),
                "tpot_raised_from_ms": _rounded(self.tpot_raised_from_ms),
                "tpot_ms": _rounded(self.tpot_ms),
                "met": self.met,
            },
        }

    def _speculation(self) -> dict[str, float | int | None]:
        steps = int(self.stats.get("num_spec_steps", 0))
        drafted = int(self.stats.get("num_draft_tokens", 0))
        accepted = int(self.stats.get("num_accepted_draft_tokens", 0))
        return {
            # with the token that the target adds itself, as vLLM counts
            "mean_acceptance_length": _rounded(1 + accepted / steps) if steps else None,
            "draft_acceptance_rate": _rounded(accepted / drafted) if drafted else None,
            "num_draft_tokens": drafted,
            "num_accepted_draft_tokens": accepted,
            "num_spec_steps": steps,
        }


def total_usage(choices: Sequence[Account]) -> dict[str, Any]:
    """Of an answer: the prompt, which is the same for all, once; the completions together."""
    usage = choices[0].usage()
    usage["completion_tokens"] = sum(choice.output_tokens for choice in choices)
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    return usage


def total_metrics(choices: Sequence[Account]) -> dict[str, Any]:
    """Of an answer: from its first token to its last, with the speculation of all its choices.

    TPOT and the SLO's verdict are those of the slowest choice: each is a request with the whole target.
    """
    if len(choices) == 1:
        return choices[0].metrics()
    slowest = max(choices, key=lambda choice: choice.tpot_ms)
    names = {name for choice in choices for name in choice.stats}
    stats = {name: sum(choice.stats.get(name, 0.0) for choice in choices) for name in names}
    stats["queue_ms"] = max(choice.stats.get("queue_ms", 0.0) for choice in choices)
    firsts = [choice.first_ms for choice in choices if choice.first_ms is not None]
    lasts = [choice.last_ms for choice in choices if choice.last_ms is not None]
    waits = [choice.ttft_ms for choice in choices if choice.ttft_ms is not None]
    whole = replace(
        slowest,
        ttft_ms=min(waits, default=None),
        first_ms=min(firsts, default=None),
        last_ms=max(lasts, default=None),
        stats=stats,
    )
    metrics = whole.metrics()
    rates = [1_000 / choice.tpot_ms for choice in choices if choice.tpot_ms > 0]
    verdict = {"tpot_ms": _rounded(slowest.tpot_ms), "met": _all_met(choices)}
    return {
        **metrics,
        "mean_itl_ms": _rounded(slowest.tpot_ms),
        "tokens_per_second": _rounded(sum(rates)) if rates else None,
        "slo": {**metrics["slo"], **verdict},
    }


def _all_met(choices: Sequence[Account]) -> bool | None:
    """Whether every choice attained the SLO; None without one."""
    return all(choice.met for choice in choices) if choices[0].has_target else None


def _rounded(value: float | None) -> float | None:
    """To a microsecond; JSON has no infinity, so "no target" is null."""
    return round(value, 3) if value is not None and math.isfinite(value) else None
