"""What speculation should bring and what it brings, from what the services count as they serve streams. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.replay.counters import Samples, total
from shared import signals


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Of some streams that ran together, or of all since the services started; times in ms, summed."""

    wall_ms: float
    tokens: float
    speculative: float  # forward passes with trees
    plain: float  # those without, prompts included
    forward_ms: float
    step_ms: float  # planned until committed, the forward pass included
    commit_ms: float
    rounds: float  # of the ring
    missed: float  # deadlines of the ring
    ring_ms: float
    draft_ms: float
    select_ms: float

    def __sub__(self, before: Served) -> Served:
        return Served(**{name: getattr(self, name) - getattr(before, name) for name in self.__slots__})

    @property
    def steps(self) -> float:
        return self.speculative + self.plain


def served(services: Mapping[str, Samples], *, wall_ms: float) -> Served:
    """All so far, by the services' own metrics; ``wall_ms`` is any clock's."""
    step, steps = f"{signals.STEP_TIME.exposed}_sum", signals.STEPS.exposed
    verifier, ring = services["verifier"], signals.RING_SECONDS.exposed
    speculative = total(verifier, steps, kind="speculative")
    return Served(
        wall_ms=wall_ms,
        tokens=total(verifier, signals.TOKENS_COMMITTED.exposed),
        speculative=speculative,
        plain=total(verifier, steps) - speculative,
        forward_ms=1e3 * total(verifier, step, part="forward"),
        step_ms=1e3 * total(verifier, step, part="total"),
        commit_ms=1e3 * total(verifier, step, part="commit"),
        rounds=total(verifier, f"{ring}_count"),
        missed=total(verifier, signals.RING_MISSES.exposed, reason="deadline"),
        ring_ms=1e3 * total(verifier, f"{ring}_sum"),
        draft_ms=1e3 * total(services["drafter"], step, part="draft"),
        select_ms=1e3 * total(services["selector"], step, part="select"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same prompts with speculation and without."""

    on: Served
    off: Served

    @property
    def plain_ms(self) -> float:
        """T(1), or T(n) for n streams: a forward pass without trees."""
        return self.off.forward_ms / self.off.steps

    @property
    def plain_tokens(self) -> float:
        """Tokens of a step without trees: about one for each stream."""
        return self.off.tokens / self.off.steps

    @property
    def tree_ms(self) -> float:
        """T(1 + B): a forward pass with trees. The few plain ones among them count as T(1)."""
        return (self.on.forward_ms - self.on.plain * self.plain_ms) / self.on.speculative

    @property
    def tree_tokens(self) -> float:
        """E: tokens of a speculative step, all streams together."""
        return (self.on.tokens - self.on.plain * self.plain_tokens) / self.on.speculative

    @property
    def draft_ms(self) -> float:
        """T_draft: what the drafter computes for a round."""
        return self.on.draft_ms / self.on.rounds

    @property
    def ring_ms(self) -> float:
        """The rest between DraftRequest and SelectedTrees: hops, selection, waking."""
        return self.on.ring_ms / self.on.rounds - self.draft_ms

    @property
    def predicted(self) -> float:
        """E · T(1) / (T(1 + B) + T_draft + ring), E by that of plain steps."""
        gained = self.tree_tokens / self.plain_tokens
        return gained * self.plain_ms / (self.tree_ms + self.draft_ms + self.ring_ms)

    @property
    def measured(self) -> float:
        """How many times as fast the streams were."""
        return (self.on.tokens / self.on.wall_ms) / (self.off.tokens / self.off.wall_ms)

    @property
    def reached(self) -> float:
        """The measured gain's share of the predicted one."""
        return self.measured / self.predicted

    def parts(self) -> dict[str, dict[str, float]]:
        """Where a step's time goes, ms by side. The commit travels within the ring; what is left is the turn
        around the step, prompts and the way to the client."""
        on, off = self.on, self.off
        host_ms = (on.step_ms - on.forward_ms - on.commit_ms) / on.steps
        period_ms = on.wall_ms / on.steps
        drafted = on.rounds / on.steps
        spent = {
            "forward": on.forward_ms / on.steps,
            "draft": self.draft_ms * drafted,
            "ring": self.ring_ms * drafted,
            "host": host_ms,
        }
        plain = {"forward": self.plain_ms, "host": (off.step_ms - off.forward_ms) / off.steps}
        return {
            "on": {**spent, "rest": period_ms - sum(spent.values()), "period": period_ms},
            "off": {
                **plain,
                "rest": off.wall_ms / off.steps - sum(plain.values()),
                "period": off.wall_ms / off.steps,
            },
        }
