"""Every guard taken out, alone and in pairs: what breaks, and after how many seeds.

    python -m tests.faults.mutants --jobs 2           all guards, then the pairs in which one hides another
    python -m tests.faults.mutants --only fence digest --seeds 300

A guard is taken out by an edit of the script library or by replacing a function. Then an example on the server
fails, or the simulation finds a stream that is lost or corrupt or a rule of the scripts that was broken, or both.
Exits with 1 where nothing notices.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from unittest.mock import patch

from tests.faults.examples import failing
from tests.faults.guards import GUARDS, PAIRS, Guard
from tests.faults.lab import Lab, laboratory
from tests.faults.run import FAILURES, simulate


@dataclass(frozen=True, slots=True)
class Finding:
    """Examples that fail; seeds until a stream was damaged and until a rule was broken (0: never), and how."""

    examples: list[str]
    damaged_after: int
    damage: str
    broken_after: int
    breach: str

    @property
    def is_noticed(self) -> bool:
        return bool(self.examples) or self.damaged_after > 0 or self.broken_after > 0


@contextmanager
def without(lab: Lab, guards: Sequence[Guard]) -> Iterator[Lab]:
    """The lab with these guards taken out."""
    library = lab.library
    with ExitStack() as stack:
        for guard in guards:
            library = guard.edit(library)
            for name, value in guard.patches.items():
                stack.enter_context(patch(name, value))
        yield replace(lab, library=library)


def hunt(lab: Lab, guards: Sequence[Guard], seeds: range) -> Finding:
    """Tries the examples, then runs seeds until a stream is damaged."""
    broken_after, breach = 0, ""
    with without(lab, guards) as mutant:
        examples = failing(lab.socket, mutant.library)
        for tried, seed in enumerate(seeds, start=1):
            try:
                result = simulate(mutant, seed)
            except FAILURES as error:
                return Finding(examples, tried, str(error), broken_after, breach)
            if result.breaches and not broken_after:
                broken_after, breach = tried, result.breaches[0]
    return Finding(examples, 0, "", broken_after, breach)


def row(names: Sequence[str], finding: Finding, took_s: float) -> str:
    """Lines of the table."""
    damage = f"after {finding.damaged_after}: {finding.damage}" if finding.damaged_after else "no stream damaged"
    lines = [f"{' + '.join(names)}  ({took_s:.0f} s)", f"    {damage}"]
    if finding.broken_after:
        lines.append(f"    rule broken after {finding.broken_after}: {finding.breach}")
    if finding.examples:
        more = f", and {len(finding.examples) - 1} more" if len(finding.examples) > 1 else ""
        lines.append(f"    example: {finding.examples[0]}{more}")
    return "\n".join(lines)


def hunted(names: Sequence[str], seeds: range) -> tuple[Finding, float]:
    """In a process of its own, with a server of its own; and what it took, in seconds."""
    logging.disable(logging.CRITICAL)
    started = time.perf_counter()
    with laboratory() as lab:
        finding = hunt(lab, [GUARDS[name] for name in names], seeds)
    return finding, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=sorted(GUARDS), help="these guards, together")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--pairs", action="store_true", help="only the pairs")
    parser.add_argument("--singles", action="store_true", help="only single guards")
    chosen = parser.parse_args()
    singles = [] if chosen.pairs else [(name,) for name in GUARDS]
    sets: list[tuple[str, ...]] = (
        [tuple(chosen.only)] if chosen.only else [*singles, *(() if chosen.singles else PAIRS)]
    )
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    unnoticed = []
    with ProcessPoolExecutor(chosen.jobs) as processes:
        for names, (finding, took_s) in zip(sets, processes.map(hunted, sets, repeat(seeds)), strict=False):
            print(row(names, finding, took_s), flush=True)
            if not finding.is_noticed:
                unnoticed.append(" + ".join(names))
    print(f"{len(sets)} sets of guards, {len(unnoticed)} unnoticed: {', '.join(unnoticed) or 'none'}")
    raise SystemExit(bool(unnoticed))


if __name__ == "__main__":
    main()
