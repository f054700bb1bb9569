"""What each item beyond the paper is worth: switched off one by one, attainment and cost over a set of workloads.

    python -m bench.simulator.ablation [--hardware qwen32b-2xa100] [--seeds 5] [--traces FOLDER] [--json]

Cost is busy seconds of verifier and drafter per 1,000 tokens of goodput. With FOLDER the paper's own traces take
the place of the generated ones that imitate them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from bench.simulator.simulate import reports

WORKLOADS: Mapping[str, str] = {
    "paper:rps=4.8": "fig8_rps4.8",
    "urgent:share=0.1": "",
    "urgent:share=0.5": "",
    "urgent:share=0.9": "fig10_urgent0.9",
    "scale:scale=0.6": "fig11_scale0.6",
    "scale:scale=1.0": "fig11_scale1.0",
    "scale:scale=1.6": "",
    "strict": "",
    "relaxed": "",
    "fluctuating": "",
    "paper:rps=4.8,ttft=500": "",
}
VARIANTS: Mapping[str, str] = {
    "everything on": "adaserve",
    "calibration off": "adaserve:calibration=false",
    "weights off": "adaserve:slo_aware=false",
    "fixed budget": "adaserve:cost_aware_budget=false",
    "depth by eq. 8": "adaserve:cost_aware_depth=false",
    "width by eq. 9": "adaserve:cost_aware_width=false",
    "chains only": "adaserve:max_width=1",
    "plain decoding off": "adaserve:plain_decoding=false",
    "prefill urgency off": "adaserve:prefill_urgency=false",
    "prompts take all of a chunk": "adaserve:prefill_share=100",
    "the paper's policy": "adaserve-paper",
    "the paper's, SLO phase off": "adaserve-paper:slo_aware=false",
    "the paper's, calibrated": "adaserve-paper:calibration=true",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One variant on one workload: percent, and seconds per 1,000 tokens of goodput."""

    workload: str
    variant: str
    attainment: float
    ci95: float | None
    verifier_s: float
    drafter_s: float


def ablate(hardware: str, workloads: Sequence[str], seeds: Sequence[int], console: Console) -> list[Cell]:
    """Every variant on every workload."""
    cases = [(trace, hardware, system) for trace in workloads for system in VARIANTS.values()]
    names = list(VARIANTS) * len(workloads)
    cells = []
    with Progress(console=console) as progress:
        task = progress.add_task("simulating", total=len(cases) * len(seeds))
        found = reports(cases, seeds, done=lambda: progress.advance(task))
        for (trace, _, _), variant, (report, runs) in zip(cases, names, found, strict=True):
            verifier, drafter = zip(*(run.gpu_seconds for run in runs.values()), strict=True)
            cells.append(
                Cell(
                    workload=Path(trace).stem if trace.endswith(".csv") else trace,
                    variant=variant,
                    attainment=report.attainment.mean or 0.0,
                    ci95=report.attainment.ci95,
                    verifier_s=statistics.fmean(verifier),
                    drafter_s=statistics.fmean(drafter),
                )
            )
    return cells


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hardware", default="qwen32b-2xa100")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    workloads = [
        str(options.traces / f"{file}.csv") if options.traces and file else preset
        for preset, file in WORKLOADS.items()
    ]
    cells = ablate(options.hardware, workloads, range(1, options.seeds + 1), Console(stderr=True))
    if options.json:
        print(json.dumps([asdict(cell) for cell in cells]))
    else:
        _print(cells)
    return 0


def _print(cells: Sequence[Cell]) -> None:
    workloads = list(dict.fromkeys(cell.workload for cell in cells))
    print("| | " + " | ".join(workloads) + " |")
    print("|---|" + "---|" * len(workloads))
    for variant in VARIANTS:
        row = [cell for cell in cells if cell.variant == variant]
        texts = [f"{c.attainment:.1f} ± {c.ci95 or 0:.1f} · {c.verifier_s:.2f} + {c.drafter_s:.2f}" for c in row]
        print(f"| {variant} | " + " | ".join(texts) + " |")


if __name__ == "__main__":
    sys.exit(main())
