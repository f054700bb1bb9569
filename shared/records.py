"""What the scripts of `shared.scripts` are given, as plain data: no connection, no Redis library."""

from __future__ import annotations

import math
from dataclasses import dataclass

Argument = str | bytes | int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRow:
    """One request's part of a commit: context[start:end] = tokens, between two points of its digest chain.

    `tokens` is uint32 LE; `event` the encoded TokenEvent for the gateway; `finish` the reason, or "" to go on. A
    finish without tokens has end == start. Raises ValueError where the counts contradict each other.
    """

    request: str
    epoch: str
    start: int
    start_digest: str
    end: int
    end_digest: str
    tokens: bytes
    event: bytes
    finish: str = ""
    logprobs: bytes = b""
    """Entries of `shared.logprobs`, one for each token, or nothing."""
    stats: bytes = b""
    """What the owner has to tell of its work on the request so far, a msgpack map of numbers; or nothing new."""

    def __post_init__(self) -> None:
        if len(self.tokens) != 4 * (self.end - self.start):
            raise ValueError(f"{len(self.tokens)} bytes of tokens do not fill {self.start}..{self.end}")
        if len(self.logprobs) % max(1, self.end - self.start):
            raise ValueError(f"{len(self.logprobs)} bytes of logprobs are no entries of {self.start}..{self.end}")
        if not self.tokens and (not self.finish or self.start_digest != self.end_digest):
            raise ValueError("a row without tokens must finish its request and keep its digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a request was enqueued with: kept by the gateway and the owner, needed to restore a lost hash."""

    body: bytes
    tenant: str
    tier: int
    seed: int
    gateway: str
    traceparent: str | None
    form: bytes = b""
    """How the gateways tell the answer; nobody else reads it."""
    cost: int = 1
    """Tokens it is expected to take: prompt and output."""
    weight: float = 1.0
    """Its tenant's share where tenants compete, relative to the others'."""
    budget_ms: float | None = None
    """Time after the queue entry within which a verifier must begin, or need not any more; None: no limit."""
    attachment: int = 1
    """Number of the connection that `gateway` delivers to; a later one's is higher, and no two have the same."""
    slo_class: str = ""
    """What it is counted under, with its tenant."""
    tpot_ms: float = math.inf
    ttft_ms: float = math.inf
    spent_ms: float = 0.0
    """Time from its arrival at the gateway to the queue entry: its time to the first token begins there."""

    def fields(self) -> tuple[Argument, ...]:
        """Names and values of the hash, flat."""
        pairs: dict[str, Argument] = {
            "body": self.body,
            "tenant": self.tenant,
            "seed": self.seed,
            "gateway": self.gateway,
            "traceparent": self.traceparent or "",
            "form": self.form,
            "cost": self.cost,
            "weight": repr(self.weight),
            "budget_ms": "" if self.budget_ms is None else f"{self.budget_ms:.3f}",
            "attachment": self.attachment,
            "slo_class": self.slo_class,
            "tpot_ms": _target(self.tpot_ms),
            "ttft_ms": _target(self.ttft_ms),
            "spent_ms": f"{self.spent_ms:.3f}",
        }
        return tuple(item for pair in pairs.items() for item in pair)


def _target(target_ms: float) -> str:
    """Exactly, "" for none."""
    return "" if math.isinf(target_ms) else repr(float(target_ms))
