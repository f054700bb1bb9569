"""What the selector reads from the environment."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from services.selector.control import PolicySettings
from shared.messages import MAX_DEPTH, MAX_WIDTH
from shared.settings import Port, ServiceSettings

DEFAULTS = PolicySettings()


class SelectorSettings(ServiceSettings):
    """The selector's settings; those of the policy have the bounds that keep its arithmetic meaningful."""

    http_port: Port = 9102
    policy: Literal["paper", "adaserve"] = Field(default=DEFAULTS.policy, description="algorithm 2, or ours")
    calibration: bool = Field(default=True, description="correct draft probabilities by what was accepted")
    min_depth: int = Field(default=DEFAULTS.min_depth, ge=1, le=MAX_DEPTH, description="D_min of eq. 8")
    max_depth: int = Field(default=DEFAULTS.max_depth, ge=1, le=MAX_DEPTH, description="D_max of eq. 8")
    max_width: int = Field(default=DEFAULTS.max_width, ge=1, le=MAX_WIDTH, description="W_max of eq. 9")
    depth_offset: int = Field(default=DEFAULTS.depth_offset, ge=0, le=4096, description="c1 of eq. 8")
    width_offset: int = Field(default=DEFAULTS.width_offset, ge=0, le=MAX_WIDTH, description="c2 of eq. 9")
    draft_tokens_per_step: int = Field(default=DEFAULTS.draft_tokens_per_step, ge=1, le=65_536, description="B2")
    budget: int | None = Field(
        default=DEFAULTS.budget, ge=1, le=65_536, description="B; from the verifier's latency model when absent"
    )
    budget_ratio: float = Field(
        default=DEFAULTS.budget_ratio, ge=1.0, le=100.0, description="B is the largest with T(B) <= ratio * T(1)"
    )
    slo_nodes_factor: float = Field(
        default=DEFAULTS.slo_nodes_factor, gt=0.0, le=100.0, description="n_max = ceil(factor * B / n)"
    )
    prefill_factor: float = Field(
        default=DEFAULTS.prefill_factor,
        gt=0.0,
        le=100.0,
        description="prompt tokens per iteration, as multiple of B",
    )

    slo_aware: bool = Field(default=DEFAULTS.slo_aware, description="targets count in the selection")
    cost_aware_budget: bool = Field(default=DEFAULTS.cost_aware_budget, description="ours: budget by worth")
    cost_aware_depth: bool = Field(default=DEFAULTS.cost_aware_depth, description="ours: depth by worth")
    cost_aware_width: bool = Field(
        default=DEFAULTS.cost_aware_width, description="ours: no wider than what was bought, and one"
    )
    plain_decoding: bool = Field(default=DEFAULTS.plain_decoding, description="ours: depth 0 is a choice")
    prefill_urgency: bool = Field(default=DEFAULTS.prefill_urgency, description="ours: TTFT targets grant prompts")
    least_weight: float = Field(
        default=DEFAULTS.least_weight, gt=0.0, le=1.0, description="ours: of a request far ahead of its schedule"
    )
    slack_tokens: float = Field(
        default=DEFAULTS.slack_tokens, gt=0.0, le=4096.0, description="ours: how far ahead that is"
    )
    prefill_share: float = Field(
        default=DEFAULTS.prefill_share,
        gt=0.0,
        le=100.0,
        description="ours: prompts may stretch an iteration so much",
    )

    @field_validator("max_depth")
    @classmethod
    def _not_below_min_depth(cls, value: int, info: ValidationInfo) -> int:
        low = info.data.get("min_depth", 1)
        if value < low:
            raise ValueError(f"must be at least min_depth, which is {low}")
        return value

    @property
    def policy_settings(self) -> PolicySettings:
        """The part that decides."""
        return PolicySettings(**{field.name: getattr(self, field.name) for field in fields(PolicySettings)})
