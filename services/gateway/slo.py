"""Which targets a request asks for: body, then headers, then none at all (best effort)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.gateway.errors import ApiError, invalid
from services.gateway.schemas import MAX_TARGET_MS, SloOptions
from shared.messages import Request

MAX_TOKENS_PER_STEP = 9  # a path of depth 8, the selectors' default limit, and the target's own token
BEST_EFFORT = "best_effort"
CUSTOM = "custom"
HEADERS = {
    "tpot_ms": ("x-slo-tpot-ms", "x-llm-d-slo-tpot-ms"),
    "ttft_ms": ("x-slo-ttft-ms", "x-llm-d-slo-ttft-ms"),
}
_NUMBER = re.compile(r"[0-9]{1,16}(?:\.[0-9]{0,16})?(?:[eE][+-]?[0-9]{1,3})?")  # as JSON, no sign; "5." as well


@dataclass(frozen=True, slots=True)
class Slo:
    """Targets in ms, infinity where there is none; the policy's class that they come from, if any."""

    tpot_ms: float = math.inf
    ttft_ms: float = math.inf
    service_class: str = ""

    @property
    def kind(self) -> str:
        """Whether there is a target at all."""
        return BEST_EFFORT if math.isinf(self.tpot_ms) and math.isinf(self.ttft_ms) else CUSTOM

    @property
    def name(self) -> str:
        """Class of the request."""
        return self.service_class or self.kind


def slo_of(request: Request) -> Slo:
    """What a request was admitted with."""
    named = "" if request.slo_class in (BEST_EFFORT, CUSTOM) else request.slo_class
    return Slo(request.tpot_ms, request.ttft_ms, named)


def resolve(options: SloOptions | None, headers: Mapping[str, str]) -> Slo:
    """The request's targets, each from the body or else from a header. Raises ApiError 400 for an odd header."""
    return Slo(
        tpot_ms=_target("tpot_ms", options.tpot_ms if options else None, headers),
        ttft_ms=_target("ttft_ms", options.ttft_ms if options else None, headers),
    )


def check_feasible(slo: Slo, zero_load_ms: float | None, *, speculation: bool) -> None:
    """Raises ApiError 400 for a TPOT that the hardware cannot reach even when it is idle.

    One token of an idle server takes ``zero_load_ms``; speculation can at best bring MAX_TOKENS_PER_STEP in that
    time. Whether it will at this load is for admission to say, not for validation.
    """
    if zero_load_ms is None:
        return
    least_ms = zero_load_ms / (MAX_TOKENS_PER_STEP if speculation else 1)
    if slo.tpot_ms < least_ms:
        raise ApiError(
            400,
            f"adaserve.slo.tpot_ms: {slo.tpot_ms:g} is below {least_ms:.3g}, the least an idle server could do"
            + ("" if speculation else " without speculation"),
            code="slo_unreachable",
            param="adaserve.slo.tpot_ms",
        )


def _target(name: str, given: float | None, headers: Mapping[str, str]) -> float:
    """Headers are checked also where the body wins: an odd one is a client's mistake either way."""
    asked = [_parse(header, text) for header in HEADERS[name] if (text := headers.get(header)) is not None]
    return next(iter([given] if given is not None else asked), math.inf)


def _parse(header: str, text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 < value <= MAX_TARGET_MS:
        raise invalid(
            header, f"must be a number of milliseconds, above 0 and at most {MAX_TARGET_MS:g} (got {text[:32]!r})"
        )
    return value
