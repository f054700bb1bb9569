"""What a report compares, whatever it comes from: a server beside itself without speculation. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.proof.intervals import Interval
from bench.replay.recording import Event, ServerSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One figure on both sides; ``theirs`` and ``difference`` are empty without a baseline.

    ``our_runs`` and ``their_runs``: the same of each run, None where it has none; empty where runs are not known.
    """

    ours: Interval
    theirs: Interval = Interval()
    difference: Interval = Interval()
    our_runs: Sequence[float | None] = ()
    their_runs: Sequence[float | None] = ()

    def json(self) -> dict[str, Any]:
        return {name: getattr(self, name).json() for name in ("ours", "theirs", "difference")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """p50 and p99 of a time in ms over requests, with speculation and without; None for what is not known."""

    ours: Mapping[str, float | None]
    theirs: Mapping[str, float | None]

    def json(self) -> dict[str, Any]:
        return {"ours": dict(self.ours), "theirs": dict(self.theirs)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """Of one class, or of all with a target. ``objective`` in percent."""

    name: str
    requests: int
    attainment: Compared  # percent of the requests with a target
    goodput: Compared  # tokens per second
    objective: float | None = None
    tpot_ms: Latency | None = None
    ttft_ms: Latency | None = None

    def json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "tpot_ms": None if self.tpot_ms is None else self.tpot_ms.json(),
            "ttft_ms": None if self.ttft_ms is None else self.ttft_ms.json(),
            "attainment": self.attainment.json(),
            "goodput_tokens_per_s": self.goodput.json(),
            "objective": self.objective,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one side computed: output tokens, those after each request's first, which came with its prompt, the
    passes of the target that these took request by request; and how long each service computed, in seconds."""

    tokens: float
    after_first: float
    passes: float
    target_s: float | None = None
    draft_s: float | None = None
    select_s: float | None = None

    @property
    def tokens_per_pass(self) -> float | None:
        return self.after_first / self.passes if self.passes else None

    @property
    def spared(self) -> float:
        """Passes of the target that accepted draft tokens have spared it."""
        return max(0.0, self.after_first - self.passes)

    @property
    def machine_s(self) -> float | None:
        """Of all three; None where the target's are not known."""
        return None if self.target_s is None else self.target_s + (self.draft_s or 0) + (self.select_s or 0)

    def per_1000(self, seconds: float | None) -> float | None:
        """Of these seconds, for a thousand output tokens."""
        return None if seconds is None or not self.tokens else 1_000 * seconds / self.tokens

    def json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "tokens_per_pass": self.tokens_per_pass,
            "machine_seconds_per_1000_tokens": self.per_1000(self.machine_s),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantFigures:
    """Of one tenant, None for all: what its tokens took of the machine and cost, and what they earned."""

    name: str | None
    requests: int
    tokens: float
    attainment: Compared
    gpu_s_per_1000: Compared
    cost_per_1000: Compared | None = None
    cost_per_1000_goodput: Compared | None = None
    gain_per_hour: Interval | None = None
    introduction: float | None = None
    payback_days: Interval | None = None  # low: soonest; None for never

    def json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in ("requests", "tokens", "introduction")}
        for name in (
            "attainment", "gpu_s_per_1000", "cost_per_1000", "cost_per_1000_goodput", "gain_per_hour",
            "payback_days",
        ):  # fmt: skip
            value = getattr(self, name)
            found[name] = None if value is None else value.json()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """One replay: percent of the requests with a target that attained, and machine seconds for 1,000 tokens."""

    seed: int
    ours: float | None
    theirs: float | None
    machine_s: float | None
    their_machine_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Finished requests with a target of one arm of a rollout."""

    name: str
    met: int
    total: int
    attainment: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that a report says in figures. ``samples`` are of our side, run after run; times in seconds."""

    source: Mapping[str, str]
    made_at: float
    has_baseline: bool
    runs: int
    paired: bool = False  # the runs of both sides are pairs of the same work
    seconds: float
    total: ClassFigures
    classes: Sequence[ClassFigures]
    work: Work
    baseline_work: Work | None
    tokens_per_pass: Interval
    net_saving_per_1000: Interval  # machine seconds, the drafter's own subtracted; below 0: it costs
    tenants: Sequence[TenantFigures]
    currency: str | None = None
    run_by_run: Sequence[RunFigures] = ()
    arms: Sequence[Arm] = ()
    arms_apart: Interval = Interval()
    samples: Sequence[ServerSample] = ()
    events: Sequence[Event] = ()
    seams_s: Sequence[float] = ()  # where one run ends and the next begins
    failed: tuple[int, int | None] = (0, None)
    coverage: str = ""  # of the periods, in words; empty where there are samples all along
    limits: Sequence[str] = field(default_factory=tuple)
