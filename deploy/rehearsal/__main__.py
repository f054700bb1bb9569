"""A render of the chart, installed, rolled out and scaled on this machine while clients check every token.

python -m deploy.rehearsal                              the committed render of the smallest example
python -m deploy.rehearsal --render FILE                another one
python -m deploy.rehearsal --values FILE [--set A=B]    what Helm makes of these values now
python -m deploy.rehearsal --table                      only the table of substitutions
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.rehearsal import node, report, substitutions
from deploy.rehearsal.campaign import Plan, rehearse
from deploy.rehearsal.images import REPOSITORY
from deploy.rehearsal.manifests import NAMESPACE, RehearsalError, Render

CHART = REPOSITORY / "deploy" / "k8s"
RENDER = CHART / "renders" / "minimal-cpu.yaml"
KUBERNETES = "1.27.0"
NUM_QUESTIONS = 12


def main() -> None:
    """Exit code 0: no fault. 1: faults. 2: it could not be tried."""
    chosen = _parser().parse_args()
    try:
        render = _render(chosen)
        substitutions.check(render)
        if chosen.table:
            print(report.substitutions(substitutions.table(render)))
            return
        if not chosen.inside:
            if (why := node.obstacle()) is not None:
                raise RehearsalError(f"no rehearsal here: {why}")
            node.enter([sys.executable, "-m", "deploy.rehearsal", "--inside", *sys.argv[1:]])
        raise SystemExit(_rehearse(render, chosen))
    except RehearsalError as error:
        sys.stderr.write(f"rehearsal: {error}\n")
        raise SystemExit(2) from None


def _rehearse(render: Render, chosen: argparse.Namespace) -> int:
    print(report.substitutions(substitutions.table(render)), flush=True)
    from deploy.rehearsal.expected import questions  # torch: seconds, and not for the table

    asked = questions(CHART.parents[1] / "models" / "target", "float32", NUM_QUESTIONS, chosen.tokens)
    plan = Plan(num_clients=chosen.clients, hold_s=chosen.hold, late_s=chosen.late)
    with tempfile.TemporaryDirectory(prefix="ada-rehearsal-", ignore_cleanup_errors=True) as folder:
        place = Path(chosen.keep or folder)
        place.mkdir(parents=True, exist_ok=True)
        result = asyncio.run(rehearse(render, place, plan, asked))
    print(f"\n{report.steps(result)}\n\n{report.summary(result)}")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(report.figures(result), indent=1))
    return bool(result.faults)


def _render(chosen: argparse.Namespace) -> Render:
    """Raises RehearsalError for a file or values that are no render."""
    if not chosen.values and not chosen.set:
        return Render.read(chosen.render)
    options = [word for file in chosen.values for word in ("--values", str(file))]
    options += [word for value in chosen.set for word in ("--set", value)]
    apart = ["--namespace", NAMESPACE, "--kube-version", KUBERNETES]
    command = [chosen.helm, "template", "rehearsal", str(CHART), *apart, *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RehearsalError(f"{chosen.helm}: {error.strerror}; --helm names Helm's program") from None
    if done.returncode:
        raise RehearsalError(f"helm template: {done.stderr.strip()}")
    return Render.parse(done.stdout)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, usual = parser.add_argument, Plan()
    add("--render", type=Path, default=RENDER, help="a file that Helm has rendered")
    add("--values", type=Path, action="append", default=[], help="values for a new render")
    add("--set", action="append", default=[], metavar="A=B", help="a value for a new render")
    add("--helm", default="helm", help="Helm's program")
    add("--clients", type=int, default=usual.num_clients, help="streams at a time")
    add("--tokens", type=int, default=160, help="of each answer")
    add("--hold", type=float, default=usual.hold_s, help="seconds of load at each size")
    add("--late", type=float, default=usual.late_s, help="seconds until Services hear of an endpoint")
    add("--json", type=Path, help="file for the figures")
    add("--keep", type=Path, help="an empty folder for logs and volumes, which stays")
    add("--table", action="store_true", help="only print the table of substitutions")
    add("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
