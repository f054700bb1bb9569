"""What a rehearsal has seen, and which of it is a fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from deploy.rehearsal.clients import Seen
from deploy.rehearsal.edges import Edge

MOST_SILENT_S = 3.0  # what is promised of a stream while any one service is replaced, with room for a busy machine
MOST_SILENT_WITHOUT_REDIS_S = 10.0  # Redis has to end, start and read its file, and nobody commits meanwhile


@dataclass
class Step:
    """One thing that was done, and what clients and pods made of it.

    ``may_refuse``: how many 429s and 503s are no fault; None while Redis is away, when there is no telling.
    ``restarts``: notes of services that were started again then, until Redis was back.
    """

    name: str
    seen: Seen
    took_s: float = 0.0
    exits: dict[str, int] = field(default_factory=dict)  # of containers that ended meanwhile, by pod/container
    may_refuse: int | None = 0
    restarts: list[str] = field(default_factory=list)

    @property
    def faults(self) -> Iterator[str]:
        """What no client may see."""
        yield from self.seen.damage
        if self.seen.num_unanswered:
            yield f"{self.seen.num_unanswered} requests were never answered: connections refused or reset"
        if self.may_refuse is not None and self.seen.num_refused > self.may_refuse:
            yield f"{self.seen.num_refused} requests were asked again; at most {self.may_refuse}"
        longest_s = max(self.seen.stalls, default=0.0)
        most_s = MOST_SILENT_S if self.may_refuse is not None else MOST_SILENT_WITHOUT_REDIS_S
        if longest_s > most_s:
            yield f"a stream was silent for {longest_s:.1f} s; at most {most_s:.0f}"


@dataclass
class Result:
    """``notes`` are of the node: what it had to restart, kill or give up. ``early`` are those of the install.

    A cluster starts everything at once, so a service may end and be started again until Redis is there.
    """

    steps: list[Step] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    install_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    edges: set[Edge] = field(default_factory=set)
    num_costs: int = 0  # deletion costs that pods have told
    forbidden: set[Edge] = field(default_factory=set)  # of those, by the NetworkPolicies
    last_exits: dict[str, int] = field(default_factory=dict)  # of the uninstall

    @property
    def faults(self) -> list[str]:
        """Why the rehearsal has failed; nothing where it has not."""
        bad = [f"{step.name}: {fault}" for step in self.steps for fault in step.faults]
        ended = [step.exits for step in self.steps] + [self.last_exits]
        bad += [f"{name} ended with {code}" for exits in ended for name, code in exits.items() if code]
        bad += [f"no NetworkPolicy allows {edge}" for edge in self.forbidden]
        excused = {note for step in self.steps for note in step.restarts}
        return bad + [note for note in self.notes if note not in excused]
