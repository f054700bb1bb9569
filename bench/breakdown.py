"""Where an iteration's time goes, as in figure 15 of the AdaServe paper: simulated, and real with its bus.

    python -m bench.breakdown [--target DIR --draft DIR] [--seconds 20] [--clients 8] [--policies adaserve paper]
                              [--trace paper:rps=4.0 --hardware llama70b-4xa100] [--json]

Real: a stack on this machine serves mixed traffic. From the services' own histograms over that time: drafting and
selection as drafter and selector measured them, forward passes, the bus (what the ring took beyond drafting and
selection: Redis, encoding, waiting for a turn), and the verifier's own work (plan, acceptance, commit). Simulated:
hops, selection and commit are an assumed constant. Shares are of the sum; drafting overlaps with prompts fed
meanwhile.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bench.local import DRAFT, TARGET, LocalStack, local_stack
from bench.replay.counters import Samples, parse, total
from bench.report import shares
from bench.rival_systems import switch, system
from bench.simulator.simulate import reports
from bench.traffic import mixed_traffic
from shared import signals

SETTLING_S = 3.0
PARTS = ("drafting", "selection", "bus", "forward", "verifier")


def spent(services: Mapping[str, Samples]) -> dict[str, float]:
    """Seconds of each of PARTS since the services started."""
    step, ring = f"{signals.STEP_TIME.name}_seconds_sum", f"{signals.RING_SECONDS.name}_seconds_sum"
    drafting = total(services["drafter"], step, part="draft")
    selection = total(services["selector"], step, part="select")
    forward = total(services["verifier"], step, part="forward")
    return {
        "drafting": drafting,
        "selection": selection,
        "bus": total(services["verifier"], ring) - drafting - selection,
        "forward": forward,
        "verifier": total(services["verifier"], step, part="total") - forward,
    }


def percent(parts: Mapping[str, float]) -> dict[str, float]:
    """Of their sum; all 0 where that is nothing."""
    return {name: 100.0 * share for name, share in (shares(parts) or dict.fromkeys(parts, 0.0)).items()}


def real(stack: LocalStack, policy: str, seconds: float, clients: int) -> dict[str, Any]:
    """Under mixed traffic: ms per iteration of the ring and percent, by part."""
    switch(stack, system(policy))
    with mixed_traffic(stack, clients, seed=23):
        time.sleep(SETTLING_S)
        before = _scrape(stack)
        time.sleep(seconds)
        after = _scrape(stack)
    first, last = spent(before), spent(after)
    parts = {name: last[name] - first[name] for name in PARTS}
    count = f"{signals.STEP_TIME.name}_seconds_count"
    steps = total(after["verifier"], count, part="total") - total(before["verifier"], count, part="total")
    rounds = total(after["selector"], count, part="select") - total(before["selector"], count, part="select")
    return {
        "policy": policy,
        "forward_passes": int(steps),
        "rounds": int(rounds),
        "ms_per_round": {name: 1000 * parts[name] / rounds if rounds else None for name in PARTS[:3]},
        "ms_per_pass": {name: 1000 * parts[name] / steps if steps else None for name in PARTS[3:]},
        "share": percent(parts),
    }


def _scrape(stack: LocalStack) -> dict[str, Samples]:
    return {name: parse(stack.metrics(name)) for name in ("drafter", "selector", "verifier")}


def simulated(trace: str, hardware: str, policies: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The simulator's three parts in percent."""
    names = {"paper": "adaserve-paper"}
    cases = [(trace, hardware, names.get(policy, policy)) for policy in policies]
    return [
        {
            "system": report.system,
            "share": percent({name: part or 0.0 for name, part in report.time_share.items()}),
        }
        for report, _ in reports(cases, seeds)
        if report.time_share is not None
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each policy, simulated and real."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--draft", default=DRAFT)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--policies", nargs="+", default=["adaserve", "paper"], choices=["adaserve", "paper"])
    parser.add_argument("--trace", default="paper:rps=4.0")
    parser.add_argument("--hardware", default="llama70b-4xa100")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    print("one simulation and then a stack of its own for each policy: some two minutes", file=sys.stderr)
    in_simulation = simulated(options.trace, options.hardware, options.policies, (1,))
    with local_stack(target=options.target, draft=options.draft) as stack:
        measured = [real(stack, policy, options.seconds, options.clients) for policy in options.policies]
    if options.json:
        print(json.dumps({"simulated": in_simulation, "real": measured}))
        return 0
    for each in in_simulation:
        print(f"simulated {each['system']:15} {_line(each['share'])}")
    for each in measured:
        print(f"real      {each['policy']:15} {_line(each['share'])}")
        times = {**each["ms_per_round"], **each["ms_per_pass"]}
        print(
            f"          {each['rounds']} rounds, {each['forward_passes']} forward passes; ms each: {_times(times)}"
        )
    return 0


def _line(share: Mapping[str, float]) -> str:
    return "   ".join(f"{name} {value:5.1f} %" for name, value in share.items())


def _times(times: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {'–' if value is None else f'{value:.2f}'}" for name, value in times.items())


if __name__ == "__main__":
    sys.exit(main())
