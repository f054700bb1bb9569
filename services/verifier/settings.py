"""What the verifier reads from the environment."""

from __future__ import annotations

from pydantic import Field

from services.verifier.bus import MAX_LABELS
from shared.messages import MAX_DEPTH, MAX_WIDTH
from shared.scripts import MAX_COMMIT_ROWS
from shared.settings import EngineSettings, Port


class VerifierSettings(EngineSettings):
    """The verifier's settings."""

    http_port: Port = 9103
    target: str = Field(description="directory or hub id of the target model")
    context_limit: int | None = Field(default=None, ge=2, description="prompt and output; at most the model's own")
    max_running: int = Field(default=64, ge=1, le=MAX_COMMIT_ROWS, description="requests in one batch")
    prefill_chunk: int = Field(default=256, ge=1, le=65_536, description="prompt tokens per forward pass")
    prefix_cache: bool = Field(
        default=True,
        description="whether KV of earlier requests of the same tenant is used for the same beginnings",
    )
    max_step_nodes: int = Field(default=2048, ge=1, le=65_536, description="tree nodes accepted per step")
    ring_deadline_cap_ms: float = Field(default=250.0, ge=5.0, le=60_000.0, description="longest wait for trees")
    max_labels: int = Field(
        default=MAX_LABELS, ge=256, le=2**24, description="labels of a temperature bucket before all count half"
    )
    drain_s: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="how long requests are served on after SIGTERM if nobody takes over",
    )
    depth: int = Field(default=4, ge=1, le=MAX_DEPTH, description="tree depth until the selector has spoken")
    width: int = Field(default=3, ge=1, le=MAX_WIDTH, description="tree width until the selector has spoken")
