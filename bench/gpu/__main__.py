"""What a GPU does beside what it could do, each figure with its floor, measured in one run (docs/gpu.md).

    python -m bench.gpu [--device cuda] [--only memory decode ...] [--json] [--out FILE]
    python -m bench.gpu --device cpu --tiny

Sections: memory, decode, verify, draft, flagship, distribution, meant to take less than ten minutes in all. Random
weights are built on the device, and the other models are the embedded pair: nothing is fetched. Exit code 0 when
all targets are met, 1 when one is not or a section failed, 2 without the device. ``--tiny`` runs every section on
a small random model, to see that it works: its figures say nothing of a GPU, nor of the targets.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.gpu import passes, rounds, truth
from bench.gpu.run import Run, elapsed, name_of
from bench.gpu.size import FULL, TINY
from bench.limits import placement
from bench.limits.figures import Section
from bench.limits.report import chosen, report, unmet
from bench.limits.table import section_lines
from shared.errors import ModelError
from shared.inference.loading import check_device
from shared.settings import EXIT_CONFIGURATION

SECTIONS: dict[str, Callable[[Run], Section]] = {
    "memory": passes.memory,
    "decode": passes.decode,
    "verify": passes.verify,
    "draft": rounds.draft,
    "flagship": truth.tokens,
    "distribution": truth.samples,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints each section when it is measured."""
    options = _options(arguments)
    try:
        device = check_device(options.device)
    except ModelError as error:
        print(f"adaserve: {error}; `--device cpu --tiny` runs every section without a GPU", file=sys.stderr)
        return EXIT_CONFIGURATION
    torch.set_num_threads(1)  # as the services
    load_before, start = placement.load_per_core(), time.monotonic()
    run = Run(device, TINY if options.tiny else FULL)
    sections, failed = measured(run, options.only, is_quiet=options.json, start=start)
    found = report(sections, load_before=load_before, quick=options.tiny)
    found["machine"] |= {"device": name_of(device), "cuda": torch.version.cuda}
    found |= {"failed": failed, "seconds": round(time.monotonic() - start)}
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
    missed = unmet(sections)
    print(
        f"targets not met: {'; '.join(missed) or 'none'}; failed: {', '.join(failed) or 'none'}", file=sys.stderr
    )
    return 1 if missed or failed else 0


def measured(
    run: Run, names: Sequence[str], *, is_quiet: bool, start: float
) -> tuple[dict[str, Any], Mapping[str, str]]:
    """Sections as JSON, and the errors of those that failed: the others go on, for a GPU may be lent once only."""
    sections: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name in names:
        print(f"{elapsed(start)}: {name} …", file=sys.stderr, flush=True)
        try:
            sections[name] = SECTIONS[name](run).as_json()
        except Exception as error:
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        if not is_quiet:
            print("\n".join(section_lines(name, sections[name])), flush=True)
    return sections, failed


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="SECTION")
    parser.add_argument("--json", action="store_true", help="the report as JSON instead of lines")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    options = parser.parse_args(arguments)
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu needs --tiny: a model of a GPU's size says nothing of a CPU")
    try:
        options.only = chosen(options.only, SECTIONS)
    except ValueError as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    sys.exit(main())
