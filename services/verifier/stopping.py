"""When a request has produced enough: end tokens, stop strings, length. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.messages import Request


class Scanner(Protocol):
    """Finds stop strings in the text of the tokens it is given, in order."""

    def push(self, token: int) -> int | None:
        """Characters of output text to keep when this token completes a stop string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRules:
    """``end_ids`` finish a request; they are not drawn before ``min_tokens`` output tokens exist."""

    end_ids: frozenset[int]
    min_tokens: int
    max_tokens: int

    @classmethod
    def of(cls, request: Request, eos_token_ids: frozenset[int]) -> StopRules:
        """The rules of one request; ignore_eos keeps its own stop ids."""
        eos = frozenset() if request.ignore_eos else eos_token_ids
        return cls(
            end_ids=eos | frozenset(request.stop_token_ids),
            min_tokens=request.min_tokens,
            max_tokens=request.max_tokens,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many drawn tokens count, why the request ends if it does, and how much text a stop string leaves."""

    num_tokens: int
    finish: str | None = None
    text_length: int = -1


def judge(drawn: Sequence[int], num_output: int, rules: StopRules, scanner: Scanner | None) -> Outcome:
    """Where ``drawn`` ends a request that has ``num_output`` tokens. Every counted token goes to the scanner."""
    for index, token in enumerate(drawn):
        count = num_output + index + 1
        kept = scanner.push(token) if scanner is not None else None
        if token in rules.end_ids:
            return Outcome(index + 1, "stop")
        if kept is not None:
            return Outcome(index + 1, "stop", kept)
        if count >= rules.max_tokens:
            return Outcome(index + 1, "length")
    return Outcome(len(drawn))
