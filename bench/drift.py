"""A draft that goes wrong under load, and comes back: what the metrics tell, when speculation stops and resumes.

    python -m bench.drift [--before 15 --bad 30 --after 15] [--streams 4] [--tokens 96] [--target DIR --draft DIR]
                          [--out DIR] [--rules FOLDER]

The target is the twin of the embedded one unless named: a model that is expensive enough for drafting to pay, so
that its loss and its return are seen. One stack under steady load. After ``--before`` seconds the draft's tokens
become random (its probabilities stay as they were), ``--bad`` seconds later it is as before. The services' figures
are read twice a second. Prints when the verifier left speculation, for which reason, and when it was back; every
answer is compared with that of plain decoding. ``--out`` gets `drift.html`, and `drift.json` that `adaserve report
--replay` plots. Where a `prometheus` is on the PATH, it scrapes the services and evaluates the alerts of
``--rules`` that are about drafts, without waiting as long as they would (``for``).

Exit code 0 when it switched by itself, an alert held (where there is a Prometheus), it came back, and no answer
differed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.drift_alerts import Alerts
from bench.drift_load import Load
from bench.drift_watch import Verdict, Watch
from bench.local import DRAFT, local_stack
from bench.proof import page, sources
from bench.replay.recording import Event, RecordedRun, Recording, save
from bench.twin import cached_twin

RULES = Path(__file__).resolve().parents[1] / "deploy" / "k8s" / "files" / "rules"
BACK_S = 90.0  # at most, until it speculates again
SETTLE_S = 60.0  # at most, until it speculates at first
TITLE = "A draft that goes wrong, and comes back"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all of it was as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=float, default=15.0, help="seconds with a good draft")
    parser.add_argument("--bad", type=float, default=30.0, help="seconds with a bad one")
    parser.add_argument("--after", type=float, default=15.0, help="seconds after speculation is back")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--policy", default="adaserve", choices=["adaserve", "paper"], help="of the selector")
    parser.add_argument("--target", help="by default the twin")
    parser.add_argument("--draft", default=DRAFT)
    parser.add_argument("--out", type=Path, default=Path("report"))
    parser.add_argument("--rules", type=Path, default=RULES)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    options.target = options.target or str(cached_twin())
    with tempfile.TemporaryDirectory(prefix="ada-drift-") as folder:
        recording, verdict = drifted(options, Path(folder) / "good")
    save(recording, options.out / "drift.json")
    facts = sources.from_files([options.out / "drift.json"], [], None, None)
    (options.out / "drift.html").write_text(page.html(facts, TITLE))
    for line in verdict.lines():
        print(line)
    print(f"wrote {options.out / 'drift.json'} and {options.out / 'drift.html'}")
    return 0 if verdict.holds else 1


def drifted(options: argparse.Namespace, good: Path) -> tuple[Recording, Verdict]:
    """The draft is good while the file is there. The whole run and what is to be said of it."""
    good.touch()
    with local_stack(
        {"selector": {"POLICY": options.policy}},
        target=options.target,
        draft=options.draft,
        environment={"BENCH_HEALED": str(good)},
        modules={"drafter": "bench.random_drafter"},
    ) as stack:
        load = Load.of(stack, streams=options.streams, tokens=options.tokens)
        with Alerts.of(stack, options.rules) as alerts, load.running(), Watch.of(stack, load.start_s) as watch:
            watch.until(lambda: watch.speculates, SETTLE_S)
            watch.pause(options.before)
            gained = watch.gains
            good.unlink()
            swapped_s = watch.now_s
            print(f"{swapped_s:6.1f} s  the draft's tokens are random from now on", flush=True)
            stopped_s = watch.until(lambda: not watch.speculates, options.bad)
            reason, alert_s = watch.reason, alerts.firing_after(watch, options.bad - (watch.now_s - swapped_s))
            watch.pause(max(0.0, swapped_s + options.bad - watch.now_s))
            good.touch()
            healed_s = watch.now_s
            print(f"{healed_s:6.1f} s  the draft is as it was", flush=True)
            back_s = watch.until(lambda: watch.speculates and watch.gains >= gained / 2, BACK_S)
            watch.pause(options.after)
        verdict = Verdict(
            swapped_s=swapped_s,
            stopped_s=stopped_s,
            reason=reason,
            healed_s=healed_s,
            back_s=back_s,
            answers=len(load.requests),
            different=load.different,
            switches=watch.switches,
            drift_s=watch.drift_after(swapped_s),
            alerts=alert_s,
        )
        run = RecordedRun(
            seed=0,
            started_at=load.started_at,
            requests=load.requests,
            samples=watch.samples,
            events=[
                Event(at_s=swapped_s, what="the draft's tokens become random"),
                Event(at_s=healed_s, what="the draft is as it was"),
            ],
        )
    recording = Recording(
        trace=f"{options.streams} steady streams",
        model=Path(options.target).name,
        system="speculation",
        temperature=0.0,
        runs=[run],
    )
    return recording, verdict


if __name__ == "__main__":
    sys.exit(main())
