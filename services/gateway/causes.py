"""What a request's time went into, and what of a missed target is owed to each part. Pure.

**TPOT.** The time from the first commit to the last is taken apart: forward passes as long as one token alone
would take (`machine`), what they took more because of the batch (`batch`), waits for trees (`ring`), passes that
only fed prompts (`prefills`), commits (`commit`), absences after a preemption (`preempted`) or a take-over
(`moved`), what is left of the verifier's loop (`bookkeeping`), and what nobody has measured (`unexplained`). Where
trees were withheld from outside (an order, no drafter, the breaker), the steps that this cost come first
(`unspeculated`): those that would not have been needed, had each brought as much as one with a tree.

**TTFT.** The way to the first commit likewise: `gateway`, `queue`, `moved`, `schema`, `room`, `turns` (between the
passes of its own prompt), `prompt` (those passes), `unexplained`.

The miss is then shared out. The floor (`machine`, `prompt`) is what has to be done in any case: of the miss it has
what exceeds the target all by itself. The rest of the miss is shared by the other parts in proportion to their
length, as a millisecond of any of them is as good as one of another. So the shares add up to the miss.

A floor above the target comes first, whatever its share: nothing else could make up for it. And where even a pass
of one token takes longer than the target, only speculation can meet it: trees withheld from most steps come before
all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from services.gateway.history import History

WITHHELD = (
    "operator", "no_drafter", "ring_deadline", "no_reply", "acceptance_collapse", "calibration_drift",
    "latency_prediction", "watch",
)  # fmt: skip
MIN_SPEC_STEPS = 4  # fewer tell nothing of what a step with a tree brings
LEAST_WITHHELD = 0.05  # share of the steps
MOST = 0.5  # likewise


@dataclass(frozen=True, slots=True)
class Part:
    """``ms`` is its length, ``share_ms`` what of the miss it is owed: per output token of a TPOT."""

    name: str
    ms: float
    share_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Miss:
    """One target: what was, what was promised, and the parts of what was: decisive ones, then by their shares."""

    actual_ms: float
    target_ms: float
    parts: tuple[Part, ...]

    @property
    def excess_ms(self) -> float:
        """Negative: room that was left."""
        return self.actual_ms - self.target_ms

    @property
    def is_missed(self) -> bool:
        return self.excess_ms > 0


def tpot(history: History) -> Miss | None:
    """None below two tokens."""
    if history.output_tokens < 2 or history.generation_ms <= 0:
        return None
    first = ("unspeculated",) if needs_speculation(history) and is_mostly_withheld(history) else ()
    parts, per = _decoding(history), history.output_tokens - 1
    return _miss(history.tpot_ms, history.tpot_target_ms, parts, per, floor="machine", first=first)


def ttft(history: History) -> Miss | None:
    """None before the first token."""
    if history.ttft_ms is None:
        return None
    return _miss(history.ttft_ms, history.ttft_target_ms, _beginning(history), 1, floor="prompt")


def needs_speculation(history: History) -> bool:
    """Whether its TPOT target is below what a pass of one token takes here: plain decoding can never meet it."""
    return alone_step_ms(history) > history.tpot_target_ms


def alone_step_ms(history: History) -> float:
    """What one of its passes would take for one token alone; 0 where that is not known."""
    return history.stat("alone_ms") / max(1.0, history.stat("num_steps") - 1)


def withheld_steps(history: History) -> dict[str, int]:
    """Steps from which trees were withheld by somebody else's doing, by why."""
    return {why: count for why, count in history.bare_reasons.items() if why in WITHHELD}


def is_mostly_withheld(history: History) -> bool:
    """Whether most steps were without trees by somebody else's doing."""
    num_withheld = sum(withheld_steps(history).values())
    return num_withheld > 0 and num_withheld >= MOST * history.stat("num_steps")


def _decoding(history: History) -> dict[str, float]:
    """All of the generation's time, part by part."""
    stat, whole_ms = history.stat, history.generation_ms
    machine_ms = min(stat("forward_ms"), stat("alone_ms") or stat("forward_ms"))
    known = stat("forward_ms") + stat("ring_ms") + stat("other_prefill_ms") + stat("commit_ms")
    parts = {
        "machine": machine_ms,
        "batch": stat("forward_ms") - machine_ms,
        "ring": stat("ring_ms"),
        "prefills": stat("other_prefill_ms"),
        "commit": stat("commit_ms"),
        "preempted": stat("preempted_ms"),
        "moved": history.idle_ms + stat("restart_ms"),
        "bookkeeping": max(0.0, stat("span_ms") - known),
    }
    parts = _fitted(parts, whole_ms)
    lost = _unspeculated_ms(history) / whole_ms
    return {"unspeculated": lost * whole_ms, **{name: (1.0 - lost) * ms for name, ms in parts.items()}}


def _unspeculated_ms(history: History) -> float:
    """What it cost that trees were withheld: the time, less what fewer steps with trees would have taken."""
    stat = history.stat
    num_steps, num_spec = stat("num_steps"), stat("num_spec_steps")
    num_withheld = sum(withheld_steps(history).values())
    if not num_steps >= num_spec >= MIN_SPEC_STEPS or num_withheld < LEAST_WITHHELD * num_steps:
        return 0.0
    gained = 1.0 + stat("num_accepted_draft_tokens") / num_spec
    needed = num_steps - num_withheld + num_withheld / gained
    ring_ms = stat("ring_ms")
    plain_ms = (history.generation_ms - ring_ms) / num_steps
    instead_ms = needed * plain_ms + ring_ms * (1.0 + (needed - num_steps + num_withheld) / num_spec)
    return min(max(0.0, history.generation_ms - instead_ms), history.generation_ms)


def _beginning(history: History) -> dict[str, float]:
    """All of the time to the first token, part by part."""
    stat = history.stat
    claimed, taken = history.claimed_ms, history.taken_ms
    prompt_ms = min(stat("prefill_forward_ms"), stat("prefill_ms"))
    parts = {
        "gateway": history.spent_ms,
        "queue": 0.0 if claimed is None else claimed - history.enqueued_ms,
        "moved": 0.0 if claimed is None or taken is None else taken - claimed,
        "schema": stat("compile_ms"),
        "room": stat("admit_ms"),
        "turns": stat("prefill_ms") - prompt_ms,
        "prompt": prompt_ms,
    }
    return _fitted({name: max(0.0, ms) for name, ms in parts.items()}, history.ttft_ms or 0.0)


def _fitted(parts: Mapping[str, float], whole_ms: float) -> dict[str, float]:
    """With what nobody has measured; parts that are longer than the whole, by clocks of two machines, are cut."""
    known = sum(parts.values())
    factor = whole_ms / known if known > whole_ms else 1.0
    fitted = {name: factor * ms for name, ms in parts.items()}
    return {**fitted, "unexplained": max(0.0, whole_ms - known)}


def _miss(
    actual_ms: float,
    target_ms: float,
    parts: Mapping[str, float],
    per: int,
    *,
    floor: str,
    first: Collection[str] = (),
) -> Miss:
    """Of the parts `first` come before the others, then the floor where it is above the target by itself."""
    per_token = {name: ms / per for name, ms in parts.items()}
    excess = actual_ms - target_ms if math.isfinite(target_ms) else 0.0
    own = max(0.0, min(excess, per_token[floor] - target_ms))
    others = sum(ms for name, ms in per_token.items() if name != floor)
    rate = max(0.0, excess - own) / others if others > 0 else 0.0
    found = [Part(name, ms, own if name == floor else rate * ms) for name, ms in per_token.items() if ms > 0]
    leading = {*first, floor} if own > 0 else {*first}

    def rank(part: Part) -> tuple[bool, bool, float, float]:
        return part.name not in leading, part.name == floor and bool(leading), -part.share_ms, -part.ms

    return Miss(actual_ms, target_ms, tuple(sorted(found, key=rank)))
