"""Targets for all requests alike, in the words of vLLM's benchmark: `ttft:300 tpot:50 e2el:2000`. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from shared.errors import ConfigurationError

MAX_TARGET_MS = 3_600_000.0  # the gateway's own limit
NAMES = ("ttft", "tpot", "e2el")


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """In ms, +inf where there is none: time per output token, to the first token, to the last token."""

    tpot_ms: float = math.inf
    ttft_ms: float = math.inf
    e2e_ms: float = math.inf


def parse_goodput(texts: Iterable[str]) -> Targets | None:
    """None for no texts. Raises ConfigurationError naming the text and what is allowed."""
    found: dict[str, float] = {}
    for text in " ".join(texts).split():
        name, _, value = text.partition(":")
        if name not in NAMES or name in found:
            raise ConfigurationError(f"--goodput {text}: name each of {', '.join(NAMES)} at most once, as tpot:50")
        found[name] = _milliseconds(text, value)
    if not found:
        return None
    return Targets(
        tpot_ms=found.get("tpot", math.inf),
        ttft_ms=found.get("ttft", math.inf),
        e2e_ms=found.get("e2el", math.inf),
    )


def _milliseconds(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number <= MAX_TARGET_MS:
        raise ConfigurationError(
            f"--goodput {text}: must be milliseconds, a number above 0 and at most {MAX_TARGET_MS:g}"
        )
    return number
