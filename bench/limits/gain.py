"""What speculation should bring and what it brings, from what a verifier tells of each request. Pure.

A request's figures (services/verifier/tally.py) begin with its first token and end with its last one, so prompts
are not among them. Sums are over requests: in a batch every one counts the steps that it shared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Requests that ran together. ``tokens`` are all of them, ``wall_ms`` is from the first asked to the last
    answered; ``decoded`` and everything below leave the first token out."""

    wall_ms: float
    tokens: float
    decoded: float
    steps: float
    speculative: float  # of the steps; they had trees
    nodes: float  # of those trees
    span_ms: float
    forward_ms: float
    waited_ms: float  # for trees
    commit_ms: float
    draft_ms: float = 0.0  # what the drafter computed for one round, on average
    plain: Mapping[str, float] = field(default_factory=dict)  # steps without a tree, by why

    @property
    def period_ms(self) -> float:
        """Of one step."""
        return self.span_ms / self.steps

    @property
    def tokens_per_s(self) -> float:
        return 1e3 * self.tokens / self.wall_ms


def served(told: Iterable[tuple[int, Mapping[str, float]]], *, wall_ms: float, draft_ms: float = 0.0) -> Served:
    """From each request's number of tokens and the ``stats`` of its end."""
    tokens, sums, count = 0, Counter[str](), 0
    for num_tokens, stats in told:
        tokens += num_tokens
        count += 1
        sums.update(stats)
    plain = {name.removeprefix("bare_"): value for name, value in sums.items() if name.startswith("bare_")}
    plain.pop("first_step", None)
    return Served(
        wall_ms=wall_ms,
        tokens=tokens,
        decoded=tokens - count,
        steps=sums["num_steps"] - count,
        speculative=sums["num_spec_steps"],
        nodes=sums["num_draft_tokens"],
        span_ms=sums["span_ms"],
        forward_ms=sums["forward_ms"],
        waited_ms=sums["ring_ms"],
        commit_ms=sums["commit_ms"],
        draft_ms=draft_ms,
        plain=plain,
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
    def num_plain(self) -> float:
        """Steps without trees where they were wanted."""
        return self.on.steps - self.on.speculative

    @property
    def tree_ms(self) -> float:
        """T(1 + B), or T(n + B): a forward pass with trees. Those without count as T(1)."""
        return (self.on.forward_ms - self.num_plain * self.plain_ms) / self.on.speculative

    @property
    def tree_tokens(self) -> float:
        """E: tokens of a stream in a speculative step."""
        return (self.on.decoded - self.num_plain) / self.on.speculative

    @property
    def ring_ms(self) -> float:
        """Between DraftRequest and SelectedTrees without drafting: hops, selection, and the commit that travels
        with the request. So a slow ring lowers the predicted gain as well as the measured one."""
        waited_ms = self.on.waited_ms / self.on.speculative + self.on.commit_ms / self.on.steps
        return waited_ms - self.on.draft_ms

    @property
    def predicted(self) -> float:
        """E · T(1) / (T(1 + B) + T_draft + ring)."""
        return self.tree_tokens * self.plain_ms / (self.tree_ms + self.on.draft_ms + self.ring_ms)

    @property
    def measured(self) -> float:
        """How many times as fast the requests were, prompts and the way to the client included."""
        return self.on.tokens_per_s / self.off.tokens_per_s

    @property
    def reached(self) -> float:
        """The measured gain's share of the predicted one."""
        return self.measured / self.predicted


def parts(side: Served) -> dict[str, float]:
    """Where a step's time goes, ms. ``host`` is the verifier's own work, ``outside`` what the client waited for
    beyond all steps: the prompt, the gateway, HTTP, and in a batch the streams that end later."""
    per = 1.0 / side.steps
    spent = {
        "forward": side.forward_ms * per,
        "trees": side.waited_ms * per,
        "commit": side.commit_ms * per,
    }
    host_ms = side.period_ms - sum(spent.values())
    streams = side.tokens - side.decoded
    return {**spent, "host": host_ms, "outside": (streams * side.wall_ms - side.span_ms) * per}
