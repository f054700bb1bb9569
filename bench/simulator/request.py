"""One simulated request: what the real scheduler needs of a request, and what is measured of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.report import Outcome
from shared.inference.blocks import SequenceSlots


@dataclass(slots=True, eq=False)
class SimRequest:
    """``length`` output tokens are produced before the text ends; ``target_ms`` is infinity for best effort."""

    index: int
    category: str
    arrival_ms: float
    num_prompt: int
    length: int
    max_tokens: int
    target_ms: float
    slots: SequenceSlots
    ttft_target_ms: float = math.inf
    num_output: int = 0
    first_token_ms: float = math.nan
    last_token_ms: float = math.nan
    num_steps: int = 0  # verifications of drafted tokens
    num_accepted: int = 0
    weight: float = 1.0

    @property
    def position(self) -> int:
        """Context length."""
        return self.num_prompt + self.num_output

    @property
    def num_pending(self) -> int:
        """Context tokens the next forwards have to feed."""
        return self.num_prompt + self.num_output - self.slots.length

    @property
    def is_ready(self) -> bool:
        """There is nothing to be compiled here."""
        return True

    @property
    def is_decoding(self) -> bool:
        """Whether only the last token is unfed."""
        return self.num_prompt + self.num_output - self.slots.length == 1

    @property
    def has_ended(self) -> bool:
        """Whether all output is there."""
        return self.num_output >= self.length

    def ttft_slack_ms(self, now_ms: float) -> float:
        """Time left until the first token is late."""
        return self.ttft_target_ms - (now_ms - self.arrival_ms)

    def elapsed_ms(self, now_ms: float) -> float:
        """Since the first token; 0 before it."""
        return now_ms - self.first_token_ms if self.num_output else 0.0

    def give_up_kv(self) -> None:
        """Preempted: the context is fed again later."""
        self.slots.free()

    def emit(self, count: int, now_ms: float) -> None:
        """``count`` tokens are committed at ``now_ms``; those beyond the end are dropped."""
        if self.num_output == 0:
            self.first_token_ms = now_ms
        self.num_output = min(self.num_output + count, self.length)
        self.last_token_ms = now_ms

    @property
    def outcome(self) -> Outcome:
        """For the report."""
        return Outcome(
            category=self.category,
            arrival_ms=self.arrival_ms,
            first_ms=self.first_token_ms,
            last_ms=self.last_token_ms,
            tokens=self.num_output,
            target_ms=self.target_ms,
            ttft_target_ms=self.ttft_target_ms,
            num_steps=self.num_steps,
            num_accepted=self.num_accepted,
        )
