"""What came back for one request, event by event. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_REASON_CHARS = 60


@dataclass(slots=True, kw_only=True)
class Reply:
    """What came back; times in ms on this process's clock. `failure` is None for a request that finished."""

    first_ms: float | None = None
    last_ms: float | None = None
    finish_reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None

    @property
    def tokens(self) -> int:
        """As the server counted them; 0 when it did not say."""
        return int(self.usage.get("completion_tokens") or 0)


def take(event: Mapping[str, Any], reply: Reply, at_ms: float) -> None:
    """Add one event that arrived then."""
    if "error" in event:
        reply.failure = f"stream: {_code(event)}"
    reply.usage = event.get("usage") or reply.usage
    reply.metrics = event.get("metrics") or reply.metrics
    for choice in event.get("choices", ()):
        reply.finish_reason = choice.get("finish_reason") or reply.finish_reason
        if choice.get("text"):
            reply.first_ms = at_ms if reply.first_ms is None else reply.first_ms
            reply.last_ms = at_ms


def refusal(status: int, body: bytes) -> str:
    """`429 queue_full`: the status and, where the answer has one, the error's code."""
    try:
        return f"{status} {_code(json.loads(body))}"
    except (ValueError, TypeError, AttributeError):
        return str(status)


def _code(event: Mapping[str, Any]) -> str:
    error = event["error"] if isinstance(event.get("error"), Mapping) else {}
    return str(error.get("code") or error.get("type") or "error")[:MAX_REASON_CHARS]
