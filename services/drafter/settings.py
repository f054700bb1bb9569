"""What the drafter reads from the environment."""

from __future__ import annotations

from pydantic import Field

from services.drafter.worth import Mode
from shared.settings import EngineSettings, Port

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
    warm_chunk: int = Field(default=256, ge=1, le=65_536, description="context tokens fed per background slice")

    @property
    def largest_pass(self) -> int:
        """Tokens of one forward pass: nodes of a level, a chunk of a context, or contexts caught up with.

        Rows that are new or come back are behind by more than a few tokens, and rarely come together.
        """
        return max(self.max_level_tokens, self.warm_chunk, CATCHING_UP * self.catch_up)
