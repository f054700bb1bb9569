"""What another server's stream tells of itself: its events, their times, and whether it has come to its end. Pure.

Only whole events are passed on, so that one that breaks off does not leave half of one with the client. Tokens are
those that the stream's own usage counts, or where it tells none its chunks with text: most servers send one for
each token.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from shared import slo

MAX_EVENT_BYTES = 1 << 20
_END = re.compile(rb"\r?\n\r?\n|\r\r")


@dataclass(slots=True)
class Relayed:
    """Feed it the bytes as they come, with their times in ms from the request's arrival."""

    is_done: bool = False  # `data: [DONE]` has come
    is_overlong: bool = False
    first_ms: float | None = None
    last_ms: float = 0.0
    _chunks: int = 0
    _counted: int | None = None
    _rest: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes, at_ms: float) -> bytes:
        """The events that are whole now, byte for byte."""
        self._rest += data
        ends = [found.end() for found in _END.finditer(self._rest)]
        self.is_overlong = len(self._rest) - (ends[-1] if ends else 0) > MAX_EVENT_BYTES
        if not ends:
            return b""
        whole, self._rest = bytes(self._rest[: ends[-1]]), self._rest[ends[-1] :]
        for event in _END.split(whole):
            self._read(event, at_ms)
        return whole

    @property
    def num_tokens(self) -> int:
        return self._chunks if self._counted is None else self._counted

    def attains(self, tpot_target_ms: float, ttft_target_ms: float) -> bool | None:
        """Whether it attained these targets as seen from here; None where there is nothing to judge by."""
        if self.first_ms is None:
            return None
        return slo.attained(
            tpot=slo.tpot_ms(self.first_ms, self.last_ms, self.num_tokens),
            tpot_target=tpot_target_ms,
            ttft=self.first_ms,
            ttft_target=ttft_target_ms,
        )

    def _read(self, event: bytes, at_ms: float) -> None:
        for line in event.splitlines():
            if line.startswith(b"data:"):
                self._read_data(line[5:].strip(), at_ms)

    def _read_data(self, data: bytes, at_ms: float) -> None:
        if data == b"[DONE]":
            self.is_done = True
            return
        try:
            chunk: Any = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not isinstance(chunk, dict):
            return
        if _has_text(chunk):
            self.first_ms = at_ms if self.first_ms is None else self.first_ms
            self.last_ms = at_ms
            self._chunks += 1
        counted = _counted(chunk)
        self._counted = self._counted if counted is None else counted


def tokens_of(answer: bytes) -> int | None:
    """Output tokens that a whole answer tells of; None where it does not."""
    try:
        found: Any = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return _counted(found) if isinstance(found, dict) else None


def _counted(answer: dict[str, Any]) -> int | None:
    usage = answer.get("usage")
    found = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return found if type(found) is int and found >= 0 else None


def _has_text(chunk: dict[str, Any]) -> bool:
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            delta = choice.get("delta")
            content = delta.get("content") if isinstance(delta, dict) else choice.get("text")
            if content:
                return True
    return False
