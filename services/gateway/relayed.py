"""What another server's stream tells of itself: its events, their times, and whether it has come to its end. Pure.

Only whole events are passed on, so that one that breaks off does not leave half of one with the client. Tokens are
those that the stream's own usage counts, or where it tells none its chunks with text: most servers send one for
each token. Of several choices each is judged by itself, as here; usage counts them together, and each has the
share of its chunks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from shared import slo

MAX_EVENT_BYTES = 1 << 20
_END = re.compile(rb"\r?\n\r?\n|\r\r")


@dataclass(slots=True)
class Seen:
    """Chunks with text of one choice, and when the first and the last of them came."""

    first_ms: float
    last_ms: float
    num_chunks: int = 0


@dataclass(slots=True)
class Relayed:
    """Feed it the bytes as they come, with their times in ms from the request's arrival."""

    is_done: bool = False  # `data: [DONE]` has come
    is_overlong: bool = False
    _seen: dict[int, Seen] = field(default_factory=dict)
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
        return self._num_chunks if self._counted is None else self._counted

    def attained(self, tpot_target_ms: float, ttft_target_ms: float) -> list[bool]:
        """Whether each choice with text attained these targets as seen from here."""
        return [
            slo.attained(
                tpot=slo.tpot_ms(seen.first_ms, seen.last_ms, round(seen.num_chunks * self._tokens_of_chunk)),
                tpot_target=tpot_target_ms,
                ttft=seen.first_ms,
                ttft_target=ttft_target_ms,
            )
            for seen in self._seen.values()
        ]

    @property
    def _num_chunks(self) -> int:
        return sum(seen.num_chunks for seen in self._seen.values())

    @property
    def _tokens_of_chunk(self) -> float:
        return self.num_tokens / max(1, self._num_chunks)

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
        for index in _with_text(chunk):
            seen = self._seen.setdefault(index, Seen(at_ms, at_ms))
            seen.last_ms = at_ms
            seen.num_chunks += 1
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


def _with_text(chunk: dict[str, Any]) -> Iterator[int]:
    """Indices of the choices that have some."""
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            delta = choice.get("delta")
            index = choice.get("index")
            if delta.get("content") if isinstance(delta, dict) else choice.get("text"):
                yield index if isinstance(index, int) else 0
