"""What is told of inspected requests and of one verifier at work: messages for people to look at, no more.

`InspectedTree` (selector) and `InspectedStep` (verifier) are the two halves of one iteration of one request, in
the stream `inspect:<id>`; `LiveVerifier` is what a verifier says of its last seconds in `live:<verifier>`. All are
best effort: none decides anything, and each may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.fields import MAX_AXIS, FieldError, Integer, Maybe, Number, Several, Text, column, declared
from shared.messages import MAX_CONTEXT, MAX_DEPTH, MAX_WIDTH, REQUEST_ID, Message
from shared.tree import parents_precede

Array = npt.NDArray[Any]

MAX_CANDIDATES = MAX_AXIS["candidate"]
MAX_LIVE = MAX_AXIS["live"]
NUM_DEPTHS = MAX_AXIS["depth"]
NO_STEP = 0
"""`step` of an iteration that no trees came for; the ring counts from 1."""

SUM = Integer(0, 2**63 - 1)  # of what hints say, which may be anything
WAITING, PREFILLING, DECODING = 0, 1, 2
STATES = ("waiting", "prefilling", "decoding")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InspectedTree(Message):
    """One row as the selector judged it: candidates in level order, and which of them it chose, in its order.

    ``probability`` are path probabilities, calibrated where a calibration is known; ``chosen`` index the
    candidates, ``phase`` says for what each was chosen. ``need`` is A(r), None without a target; ``budget`` is
    what the forward pass holds of all ``rows``. The trees are at most ``depth`` deep and ``width`` wide.
    """

    step: int = declared(Integer(0, 2**63 - 1))
    position: int = declared(Integer(0, MAX_CONTEXT))
    need: float | None = declared(Maybe(Number()))
    budget: int = declared(Integer())
    rows: int = declared(Integer())
    depth: int = declared(Integer(0, MAX_DEPTH))
    width: int = declared(Integer(0, MAX_WIDTH))
    draft_ms: float = declared(Number())
    select_ms: float = declared(Number())
    predicted_ms: float = declared(Number())

    tokens: Array = column(np.int32, "candidate")
    parents: Array = column(np.int16, "candidate")
    probability: Array = column(np.float32, "candidate")
    chosen: Array = column(np.int16, "chosen")
    phase: Array = column(np.uint8, "chosen")

    def check_together(self) -> None:
        if not parents_precede(self.parents):
            raise FieldError("parents must come before their children")
        if self.chosen.size and not 0 <= self.chosen.min() <= self.chosen.max() < len(self.tokens):
            raise FieldError(f"chosen must be below {len(self.tokens)}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InspectedStep(Message):
    """What one step gave one request: the tokens that fill context[position:], the accepted ones first.

    ``path`` are the accepted nodes by their place among the chosen ones of ``step``, with their raw path
    log-probabilities; a token more than the path has is the target's own. ``tpot_ms`` is the pace up to now, None
    before there is one.
    """

    step: int = declared(Integer(0, 2**63 - 1))
    position: int = declared(Integer(0, MAX_CONTEXT))
    mode: str = declared(Text(32))
    tpot_target_ms: float = declared(Number())
    tpot_ms: float | None = declared(Maybe(Number()))
    verify_ms: float = declared(Number())

    tokens: Array = column(np.int32, "drawn")
    path: Array = column(np.int16, "accepted")
    logprobs: Array = column(np.float32, "accepted")

    def check_together(self) -> None:
        if len(self.tokens) - len(self.path) not in (0, 1):
            raise FieldError("tokens must be those of the path and at most one more")
        if self.path.size and self.path.min() < 0:
            raise FieldError("path must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveVerifier(Message):
    """A verifier's state and what it did in its last seconds (docs/protocol.md, live).

    Rates are per second, the other counters sums over the window. ``accepted_at`` and ``rejected_at`` [depth]
    count edges whose parent was reached. Times of requests are in ms, infinite where there is none to tell.
    """

    mode: str = declared(Text(32))
    mode_reason: str = declared(Text(64))
    mode_since_ms: float = declared(Number())
    running: int = declared(Integer())
    waiting: int = declared(Integer())
    prefilling: int = declared(Integer())
    kv_used: int = declared(Integer())
    kv_total: int = declared(Integer())
    steps_per_s: float = declared(Number())
    tokens_per_s: float = declared(Number())
    budget_used: int = declared(SUM)
    slo_nodes: int = declared(SUM)
    throughput_nodes: int = declared(SUM)
    selected: int = declared(SUM)
    accepted: int = declared(SUM)
    expected_accepted: float = declared(Number())
    realised_accepted: int = declared(SUM)
    calibration_error: float | None = declared(Maybe(Number()))
    drafter: str | None = declared(Maybe(Text()))

    accepted_at: Array = column(np.int64, "depth")
    rejected_at: Array = column(np.int64, "depth")

    request: Array = column(REQUEST_ID, "live")
    tenant: tuple[str, ...] = declared(Several(Text(128), MAX_LIVE))
    slo_class: tuple[str, ...] = declared(Several(Text(64), MAX_LIVE))
    state: Array = column(np.uint8, "live")
    position: Array = column(np.int32, "live")
    output_tokens: Array = column(np.int32, "live")
    tpot_ms: Array = column(np.float64, "live")
    tpot_target_ms: Array = column(np.float64, "live")
    slack_ms: Array = column(np.float64, "live")

    def check_together(self) -> None:
        if not len(self.tenant) == len(self.slo_class) == len(self.request):
            raise FieldError("tenant and slo_class must name one for each request")
        if self.state.size and self.state.max() >= len(STATES):
            raise FieldError(f"state must be below {len(STATES)}")
