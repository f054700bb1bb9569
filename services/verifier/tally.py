"""Where the time of a verifier goes, and what of it each request has had: why a request was slow. Pure.

The verifier keeps running totals. A request notes where they stood at its first step here; what they have grown by
since is where its time went, so that all of it together costs a request a few additions a step.

Every figure may be added to those of other verifiers that served the same request (shared/usage.lua does), but
for the time in the queue and the cached tokens of the prompt, which the first one knows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import msgpack

TOLD_EVERY = 16  # steps, after the first


class Totals(NamedTuple):
    """Of one verifier, at a step's end. ms, unless they count; `drawing` are forward passes that draw tokens."""

    clock_ms: float = 0.0
    ring_ms: float = 0.0  # waited for trees
    forward_ms: float = 0.0  # drawing
    predicted_ms: float = 0.0  # what the latency model had said of those
    alone_ms: float = 0.0  # what one token alone would have taken in their place
    other_prefill_ms: float = 0.0  # forward passes that drew nothing
    commit_ms: float = 0.0
    batch_rows: float = 0.0  # of drawing passes, added up
    batch_tokens: float = 0.0
    batch_prompt_tokens: float = 0.0

    def since(self, before: Totals) -> Totals:
        """What they have grown by."""
        return Totals(*(now - then for now, then in zip(self, before, strict=True)))

    def after(self, pause: Totals) -> Totals:
        """As if they had stood higher by so much."""
        return Totals(*(now + more for now, more in zip(self, pause, strict=True)))


@dataclass(slots=True, eq=False)
class Timekeeper:
    """Grows a verifier's totals."""

    _now: Totals = field(default_factory=Totals)

    def waited(self, ms: float) -> None:
        """For trees, with nothing else to do."""
        self._now = self._now._replace(ring_ms=self._now.ring_ms + ms)

    def prefilled(self, ms: float) -> None:
        """A forward pass that drew nothing."""
        self._now = self._now._replace(other_prefill_ms=self._now.other_prefill_ms + ms)

    def drew(
        self, ms: float, *, predicted_ms: float, alone_ms: float, rows: int, tokens: int, prompt_tokens: int
    ) -> None:
        """A forward pass that drew tokens."""
        grown = Totals(
            forward_ms=ms,
            predicted_ms=predicted_ms,
            alone_ms=alone_ms,
            batch_rows=rows,
            batch_tokens=tokens,
            batch_prompt_tokens=prompt_tokens,
        )
        self._now = self._now.after(grown)

    def committed(self, ms: float) -> None:
        """Redis has answered a commit."""
        self._now = self._now._replace(commit_ms=self._now.commit_ms + ms)

    def at(self, clock_ms: float) -> Totals:
        """The totals of now."""
        return self._now._replace(clock_ms=clock_ms)


@dataclass(slots=True)
class Tally:
    """What the request's last event reports; counts since this verifier took it."""

    queue_ms: float = 0.0
    num_steps: int = 0
    num_spec_steps: int = 0
    num_draft_tokens: int = 0
    num_accepted_draft_tokens: int = 0
    num_cached_tokens: int = 0  # of the prompt, whose KV was there when it was first admitted
    num_late_steps: int = 0  # in which its need could not be met within the budget, as the selector said
    num_prefill_steps: int = 0
    num_preemptions: int = 0
    compile_ms: float = 0.0  # of its schema
    admit_ms: float = 0.0  # until there was room for its KV
    prefill_ms: float = 0.0  # from then to its first token
    prefill_forward_ms: float = 0.0  # forward passes that fed its prompt
    restart_ms: float = 0.0  # from a take-over to its first step here
    preempted_ms: float = 0.0
    bare: Counter[str] = field(default_factory=Counter)  # steps without a tree, by why
    _claimed_ms: float = 0.0
    _ready_ms: float = 0.0
    _admitted_ms: float | None = None
    _is_begun: bool = False  # it had tokens when it came here
    _is_away: bool = False  # preempted
    _begin: Totals | None = None
    _latest: Totals = field(default_factory=Totals)

    def claimed(self, clock_ms: float, *, is_begun: bool) -> None:
        """This verifier has taken it."""
        self._claimed_ms = self._ready_ms = clock_ms
        self._is_begun = is_begun

    def compiled(self, clock_ms: float) -> None:
        """Its schema's grammar is there."""
        self._ready_ms = clock_ms
        self.compile_ms = clock_ms - self._claimed_ms

    def admitted(self, clock_ms: float) -> None:
        """It has got room for its KV; only the first time tells."""
        if self._admitted_ms is None:
            self._admitted_ms = clock_ms
            self.admit_ms = clock_ms - self._ready_ms

    def fed(self, forward_ms: float) -> None:
        """A forward pass has fed a chunk of it; what is fed once more after its first token has other names."""
        if self._begin is None:
            self.num_prefill_steps += 1
            self.prefill_forward_ms += forward_ms

    def preempted(self) -> None:
        """It has lost its KV; it is away until its next step."""
        self.num_preemptions += 1
        self._is_away = True

    def stepped(self, totals: Totals, *, num_nodes: int, num_accepted: int, is_late: bool, why_bare: str) -> None:
        """It has drawn. ``why_bare`` counts only where there was no tree."""
        if self._begin is None:
            self._begin = totals
            self._begun(totals.clock_ms)
        elif self._is_away:
            pause = totals.since(self._latest)
            self.preempted_ms += pause.clock_ms
            self._begin = self._begin.after(pause)
        self._latest, self._is_away = totals, False
        self.num_steps += 1
        self.num_draft_tokens += num_nodes
        self.num_accepted_draft_tokens += num_accepted
        self.num_late_steps += is_late
        if num_nodes:
            self.num_spec_steps += 1
        else:
            self.bare[why_bare] += 1

    def _begun(self, clock_ms: float) -> None:
        if self._is_begun:
            self.restart_ms = clock_ms - self._claimed_ms
            self.compile_ms = self.admit_ms = self.prefill_forward_ms = 0.0
            self.num_prefill_steps = 0
        elif self._admitted_ms is not None:
            self.prefill_ms = clock_ms - self._admitted_ms

    @property
    def is_to_be_told(self) -> bool:
        """Whether Redis is told of it with the step just made, lest too much is lost with this verifier."""
        return self.num_steps % TOLD_EVERY == 1

    def as_stats(self) -> dict[str, float]:
        """The ``stats`` of a terminal TokenEvent. Of its time from the first step here to the last, `span_ms`."""
        grown = self._latest.since(self._begin or self._latest)
        told = {name: float(getattr(self, name)) for name in _TOLD}
        return {
            **told,
            "span_ms": grown.clock_ms,
            **{name: float(value) for name, value in grown._asdict().items() if name != "clock_ms"},
            **{f"bare_{why}": float(count) for why, count in self.bare.items()},
        }

    def packed(self) -> bytes:
        """The same for the request's hash."""
        packed: bytes = msgpack.packb(self.as_stats())
        return packed


_TOLD = tuple(field.name for field in fields(Tally) if not field.name.startswith("_") and field.name != "bare")
