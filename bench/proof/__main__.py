"""Does speculation pay on this machine? One workload with it and without it, and the report on both.

    python -m bench.proof [--trace relative:seconds=60,lengths=0.25,rps=0.7] [--rounds 10 --first-seed 0]
                          [--temperature 0]
                          [--target DIR --draft DIR] [--policy FILE --prices FILE] [--out DIR]

The target is the twin of the embedded one unless named: a model that is expensive enough for drafting to have a
chance on a machine without a GPU. Both sides of a round get the same requests and seeds, one after the other on
the same running stack; who is first changes with the round. ``--out`` gets `with.json` and `without.json` (what
`adaserve replay --save` writes), `report.html`, and the same figures as `report.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.local import DRAFT
from bench.proof import page, sources
from bench.proof.measure import Told, Workload, measure
from bench.proof.words import sentences
from bench.replay.recording import save
from bench.workloads import load_trace
from shared.errors import AdaServeError

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
TRACE = "relative:seconds=60,lengths=0.25,rps=0.7"
TITLE = "Does speculation pay on this machine?"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all was measured, whether it pays or not; 2 for options that do not fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", default=TRACE)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0, help="of the first round; to add rounds to others")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--target", help="by default the twin")
    parser.add_argument("--draft", default=DRAFT)
    parser.add_argument("--policy", type=Path, default=EXAMPLES / "report-policy.yaml")
    parser.add_argument("--prices", type=Path, default=EXAMPLES / "report-prices.yaml")
    parser.add_argument("--out", type=Path, default=Path("report"))
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    try:
        load_trace(options.trace)
        shares = {name: one.share for name, one in sources.read_prices(options.prices).tenants.items()}
        options.out.mkdir(parents=True, exist_ok=True)
    except (AdaServeError, OSError) as error:
        parser.error(str(error))
    workload = Workload(
        trace=options.trace,
        rounds=options.rounds,
        first_seed=options.first_seed,
        temperature=options.temperature,
        policy=options.policy,
        shares=shares,
    )
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with _progress(console, 2 * options.rounds) as told:
        recordings = measure(workload, options.target or _twin(), options.draft, told)
    with_, without = (options.out / name for name in ("with.json", "without.json"))
    for recording, path in zip(recordings, (with_, without), strict=True):
        save(recording, path)
    facts = sources.from_files([with_], [without], options.prices, options.policy)
    (options.out / "report.html").write_text(page.html(facts, TITLE))
    (options.out / "report.json").write_text(json.dumps(page.json(facts), indent=1) + "\n")
    print("\n".join(sentences(facts)))
    console.print(f"wrote {options.out / 'report.html'}")
    return 0


def _twin() -> str:
    from bench.twin import cached_twin  # torch and transformers

    return str(cached_twin())


@contextmanager
def _progress(console: Console, replays: int) -> Iterator[Told]:
    """A bar of replays and one of the requests of the present one; lines where nobody watches a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        whole = progress.add_task("replays", total=replays)
        current = progress.add_task("starting", total=None)
        seen: list[str] = []

        def told(name: str, due: int, done: int, of: int) -> None:
            if name not in seen:
                seen.append(name)
                progress.update(whole, completed=len(seen) - 1)
                if not console.is_terminal:
                    console.print(name)
            progress.update(current, description=f"{name}: {due} due, done", completed=done, total=of)

        yield told


if __name__ == "__main__":
    sys.exit(main())
