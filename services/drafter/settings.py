"""What the drafter reads from the environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from services.drafter.worth import Mode
from shared.inference.buckets import WIDTHS, Load
from shared.settings import PREFIX, EngineSettings, Port

USUAL_ROWS = 64  # of a round
CATCHING_UP = 16  # rows that may lag all they may in the same round


class DrafterSettings(EngineSettings):
    """The drafter's settings."""

    http_port: Port = 9101
    draft: str = Field(description="directory or hub id of the draft model")
    max_level_tokens: int = Field(default=256, ge=1, le=65_536, description="tree nodes fed per level")
    catch_up: int = Field(default=64, ge=1, le=65_536, description="unfed context a row may have and be drafted")
    draft_ahead: Mode = Field(
        default="auto", description="draft from likely outcomes while a tree is verified; auto: where it pays"
    )
    whole_rounds: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="let the device draft whole rounds, nothing ahead; auto: on cuda, unless draft_ahead=on",
    )
    warm_chunk: int = Field(default=256, ge=1, le=65_536, description="context tokens fed per background slice")

    @field_validator("whole_rounds")
    @classmethod
    def _with_nothing_ahead(cls, mode: str, others: ValidationInfo) -> str:
        if mode == "on" and others.data.get("draft_ahead") == "on":
            raise ValueError(f"cannot be on with {PREFIX}DRAFT_AHEAD=on, which drafts level by level")
        return mode

    @property
    def has_whole_rounds(self) -> bool:
        """Whether the device runs rounds by itself where it can."""
        if self.whole_rounds == "auto":
            return self.device != "cpu" and self.draft_ahead != "on"
        return self.whole_rounds == "on"

    @property
    def ahead_mode(self) -> Mode:
        """Draft-ahead as it can be: it needs the answers of each level, which whole rounds do not bring back."""
        return "off" if self.has_whole_rounds else self.draft_ahead

    @property
    def largest_pass(self) -> int:
        """Tokens of one forward pass: nodes of a level, a chunk of a context, or contexts caught up with.

        Rows that are new or come back are behind by more than a few tokens, and rarely come together.
        """
        return max(self.max_level_tokens, self.warm_chunk, CATCHING_UP * self.catch_up)

    def load(self, context_limit: int) -> Load:
        """What forward passes are usually like, of a model that knows so many positions.

        Contexts lack the token drawn last, and an accepted leaf; or levels are fed one by one.
        """
        return Load(
            rows=min(USUAL_ROWS, self.max_level_tokens),
            chunk=self.warm_chunk,
            context=context_limit,
            trees=WIDTHS,
            widths=WIDTHS if self.has_whole_rounds else (),
        )
