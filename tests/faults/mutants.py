"""Every guard taken out, alone and in pairs: what breaks, and after how many seeds.

    python -m tests.faults.mutants                    all guards, then the pairs in which one hides another
    python -m tests.faults.mutants --only fence digest --seeds 300

A guard is taken out by an edit of the script library or by replacing a function; the simulation must then find a
stream that is lost or corrupt, or a rule of the scripts that was broken.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch

from tests.faults.guards import GUARDS, PAIRS, Guard
from tests.faults.lab import Lab, laboratory
from tests.faults.run import FAILURES, simulate


@dataclass(frozen=True, slots=True)
class Finding:
    """Seeds until a stream was damaged and until a rule was broken (0: never), and how."""

    damaged_after: int
    damage: str
    broken_after: int
    breach: str

    @property
    def is_noticed(self) -> bool:
        return self.damaged_after > 0 or self.broken_after > 0


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
    """Runs seeds until a stream is damaged."""
    broken_after, breach = 0, ""
    with without(lab, guards) as mutant:
        for tried, seed in enumerate(seeds, start=1):
            try:
                result = simulate(mutant, seed)
            except FAILURES as error:
                return Finding(tried, str(error), broken_after, breach)
            if result.breaches and not broken_after:
                broken_after, breach = tried, result.breaches[0]
    return Finding(0, "", broken_after, breach)


def row(names: Sequence[str], finding: Finding, took_s: float) -> str:
    """A line of the table."""
    damage = f"after {finding.damaged_after}: {finding.damage}" if finding.damaged_after else "no stream damaged"
    breach = f"; rule broken after {finding.broken_after}: {finding.breach}" if finding.broken_after else ""
    return f"{' + '.join(names):44} {damage}{breach}  ({took_s:.0f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=sorted(GUARDS), help="these guards, together")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--pairs", action="store_true", help="only the pairs")
    parser.add_argument("--singles", action="store_true", help="only single guards")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    singles = [] if chosen.pairs else [(name,) for name in GUARDS]
    sets: list[tuple[str, ...]] = (
        [tuple(chosen.only)] if chosen.only else [*singles, *(() if chosen.singles else PAIRS)]
    )
    unnoticed = []
    with laboratory() as lab:
        for names in sets:
            started = time.perf_counter()
            guards = [GUARDS[name] for name in names]
            finding = hunt(lab, guards, range(chosen.first, chosen.first + chosen.seeds))
            print(row(names, finding, time.perf_counter() - started), flush=True)
            if not finding.is_noticed:
                unnoticed.append(" + ".join(names))
    print(f"{len(sets)} sets of guards, {len(unnoticed)} unnoticed: {', '.join(unnoticed) or 'none'}")


if __name__ == "__main__":
    main()
