"""Every promise and the campaign that shows it, one after the other at full size: hours.

    python -m tests.faults.chaos [--only simulation redis ...] [--out FOLDER]

What a campaign prints is in FOLDER under its name. A promise holds when its campaign says so by exit code 0. The
short forms belong to `make test`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

LAST_LINES = 6


@dataclass(frozen=True, slots=True)
class Campaign:
    """``words`` follow `python -m`."""

    promise: str
    words: str


CAMPAIGNS = {
    "simulation": Campaign(
        "no token is lost, duplicated or reordered: real handlers, every fault",
        "tests.faults.simulation --seeds 20000 --jobs 2",
    ),
    "mutants": Campaign("each guard is missed when it is gone", "tests.faults.mutants --seeds 1000 --jobs 2"),
    "kills": Campaign(
        "the same with processes killed and stopped",
        "tests.faults.killer --kills 1000 --stops 0.2 5 60 --anytime --period 0.8",
    ),
    "pair": Campaign("the same with the embedded models", "tests.faults.killer --kills 50 --pair --period 3"),
    "float32": Campaign(
        "the same in float32, but for near ties",
        "tests.faults.killer --kills 20 --pair --dtype float32 --period 3",
    ),
    "verifier": Campaign(
        "a verifier's death stalls for 2 s and prefill", "tests.faults.killer --kills 100 --only verifier"
    ),
    "storm": Campaign("the same with single commands lost, doubled and cut", "tests.faults.storm --seconds 300"),
    "gateway": Campaign("a gateway's death stalls for 1 s", "pytest -s tests/e2e/test_resume.py"),
    "draft": Campaign("dead or random drafters cost speed only, and little of it", "bench.fallback"),
    "redis": Campaign("Redis restarts, forgets, hangs, is full", "tests.faults.redis_faults --times 10"),
    "overload": Campaign("overload is refused early, and passes", "bench.overload --paced --tokens 64"),
    "leavers": Campaign("clients that leave leave nothing", "tests.faults.leavers --clients 10000"),
    "replacement": Campaign("every replica can be replaced under load", "tests.faults.replacement"),
}


def run(name: str, campaign: Campaign, folder: Path) -> bool:
    """One campaign, to its end; whether its promise holds."""
    print(f"{name}: {campaign.promise}\n    python -m {campaign.words}", flush=True)
    path, start = folder / f"{name}.out", time.monotonic()
    with path.open("wb") as output:
        words = [sys.executable, "-m", *campaign.words.split()]
        code = subprocess.run(words, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    for line in path.read_text(errors="replace").splitlines()[-LAST_LINES:]:
        print(f"    | {line}")
    verdict = "holds" if code == 0 else f"NOT SHOWN (exit code {code})"
    print(f"    {verdict}, {(time.monotonic() - start) / 60:.1f} min, all of it in {path}", flush=True)
    return code == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=sorted(CAMPAIGNS), default=list(CAMPAIGNS))
    parser.add_argument("--out", type=Path, help="a folder; a new temporary one by default")
    chosen = parser.parse_args()
    folder = chosen.out or Path(tempfile.mkdtemp(prefix="ada-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    held = {name: run(name, CAMPAIGNS[name], folder) for name in chosen.only}
    print(f"{sum(held.values())} of {len(held)} promises hold:", *(name for name, holds in held.items() if holds))
    raise SystemExit(not all(held.values()))


if __name__ == "__main__":
    main()
