"""Every figure beside its physical floor, its target and the stored baseline (bench/METHODOLOGY.md).

    python -m bench.limits [--only ring codec ...] [--json] [--out FILE] [--baseline FILE] [--quick]
                           [--requests 10000] [--threads 1]

Sections: machine, codec, selection, forward, level, verifier, ring, gateway, speculation, compaction,
memory. Each measures its floor in the same run. Exit code 0 when all targets are met that were measured, 1
otherwise. ``--quick`` measures an eighth as often: to see whether something is broken, not how fast it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.limits import (
    codec,
    compaction,
    forward,
    gateway,
    level,
    machine,
    memory,
    placement,
    ring,
    selection,
    speculation,
    verifier,
)
from bench.limits.comparison import changes, differing
from bench.limits.figures import Section
from bench.limits.report import BASELINE, chosen, read_report, report, unmet
from bench.limits.run import Run
from bench.limits.table import comparison_lines, section_lines

SECTIONS: dict[str, Callable[[Run], Section]] = {
    "machine": machine.measure,
    "codec": codec.measure,
    "selection": selection.measure,
    "forward": forward.measure,
    "level": level.measure,
    "verifier": verifier.measure,
    "ring": ring.measure,
    "gateway": gateway.measure,
    "speculation": speculation.measure,
    "compaction": compaction.measure,
    "memory": memory.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints each section when it is measured."""
    options = _options(arguments)
    load_before = placement.load_per_core()
    sections = {}
    with Run(quick=options.quick, requests=options.requests, threads=options.threads) as run:
        for name in options.only:
            sections[name] = SECTIONS[name](run).as_json()
            if not options.json:
                print("\n".join(section_lines(name, sections[name])), flush=True)
    found = report(sections, load_before=load_before, quick=options.quick)
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
    elif options.baseline is not None:
        lines = comparison_lines(
            changes(found, options.baseline), differing(found["machine"], options.baseline["machine"])
        )
        print("\n".join(lines))
    missed = unmet(sections)
    print(f"targets not met: {'; '.join(missed) or 'none'}", file=sys.stderr)
    return 1 if missed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="SECTION")
    parser.add_argument("--json", action="store_true", help="the report as JSON instead of lines")
    parser.add_argument("--out", type=Path, help="also write the report to this file: a baseline for later runs")
    parser.add_argument("--baseline", type=Path, help=f"report to compare with; {BASELINE.name} where it is there")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--requests", type=int, default=10_000, help="of the memory section; default %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="of this process; default %(default)s")
    options = parser.parse_args(arguments)
    try:
        options.only = chosen(options.only, SECTIONS)
        path = options.baseline or (BASELINE if BASELINE.is_file() else None)
        options.baseline = None if path is None else read_report(path)
    except ValueError as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    sys.exit(main())
