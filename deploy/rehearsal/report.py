"""What a rehearsal prints, and its figures for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from deploy.rehearsal.campaign import UPGRADE
from deploy.rehearsal.clients import BUSY, Seen
from deploy.rehearsal.result import Result, Step

_HEAD = ("step", "s", "alive", "whole", "moved", "tokens", "stall p50", "p99", "max", "asked again", "exits")


def substitutions(rows: Sequence[tuple[str, str, str]]) -> str:
    """The table of what differs from a node."""
    return _aligned([("", "of the render", "here"), *rows])


def steps(result: Result) -> str:
    """A line for each step; stalls are each stream's longest silence after its first token, in s."""
    restarts = [(step.name, step.restarts) for step in result.steps if step.restarts]
    told = [(f"installed in {result.install_s:.1f} s", result.early), *restarts]
    above = "\n".join(line for name, notes in told for line in (name, *(f"  {note}" for note in notes)))
    return f"{above}\n\n" + _aligned([_HEAD, *(_row(step) for step in result.steps)])


def _row(step: Step) -> tuple[str, ...]:
    seen = step.seen
    stalls = [f"{Seen.quantile(seen.stalls, part):.2f}" for part in (0.5, 0.99, 1.0)]
    again = ", ".join(f"{count} {name}" for name, count in sorted(seen.outcomes.items()) if name != "whole")
    figures = (seen.num_alive, seen.outcomes["whole"], seen.num_moved, seen.num_tokens)
    codes = " ".join(str(code) for code in step.exits.values())
    return (step.name, f"{step.took_s:.1f}", *map(str, figures), *stalls, again or "-", codes or "-")


def figures(result: Result) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "faults": result.faults,
        "num_costs": result.num_costs,
        "install_s": round(result.install_s, 3),
        "install_notes": result.early,
        "edges": sorted([edge.source, edge.destination, edge.port] for edge in result.edges),
        "uninstall": result.last_exits,
        "steps": [
            {
                "name": step.name,
                "took_s": round(step.took_s, 3),
                "alive": step.seen.num_alive,
                "whole": step.seen.outcomes["whole"],
                "moved": step.seen.num_moved,
                "tokens": step.seen.num_tokens,
                "outcomes": dict(step.seen.outcomes),
                "damage": step.seen.damage,
                "unanswered": step.seen.num_unanswered,
                "refused": step.seen.num_refused,
                "stalls_s": [round(stall, 3) for stall in step.seen.stalls],
                "first_tokens_s": [round(first, 3) for first in step.seen.first_tokens],
                "exits": step.exits,
                "restarts": step.restarts,
            }
            for step in result.steps
        ],
    }


def summary(result: Result) -> str:
    """The verdict."""
    seen = [step.seen for step in result.steps]
    whole = sum(one.outcomes["whole"] for one in seen)
    stalls = [stall for one in seen for stall in one.stalls]
    damaged = sum(len(one.damage) for one in seen)
    exits = [code for step in result.steps for code in step.exits.values()] + list(result.last_exits.values())
    refused = Counter(name for one in seen for name in one.outcomes.elements() if name.startswith(_REFUSED))
    lines = [
        f"{whole} streams whole, {sum(one.num_moved for one in seen)} of them moved between verifiers; "
        f"truncated, wrong or failed: {damaged} (goal 0)",
        f"connections refused or reset before an answer: {sum(one.num_unanswered for one in seen)} (goal 0); "
        f"asked again: {_counted(refused)} (at most one a client and gateway that leaves; any without Redis)",
        f"longest silence of a stream: {_quantiles(stalls)}",
        *_upgrade(result),
        f"{len(exits)} containers ended, {sum(map(bool, exits))} of them with another code than 0",
        f"seen between pods: {', '.join(sorted(f'{e.source} to {e.destination}:{e.port}' for e in result.edges))}",
        f"pod-deletion-cost told {result.num_costs} times",
        *(f"FAULT {fault}" for fault in result.faults),
    ]
    return "\n".join(lines)


_QUANTILES = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
_REFUSED = tuple(map(str, BUSY))


def _upgrade(result: Result) -> Iterator[str]:
    """What clients saw of the upgrade of everything at once."""
    seen = [step.seen for step in result.steps if step.name.startswith(UPGRADE)]
    if seen:
        yield (
            f"of these, {UPGRADE}: {sum(one.outcomes['whole'] for one in seen)} streams whole; "
            f"truncated, wrong or failed: {sum(len(one.damage) for one in seen)} (goal 0); "
            f"longest silence: {_quantiles([stall for one in seen for stall in one.stalls])}"
        )


def _quantiles(figures: Sequence[float]) -> str:
    return ", ".join(f"{name} {Seen.quantile(figures, part):.2f} s" for name, part in _QUANTILES)


def _counted(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items())) or "0"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
