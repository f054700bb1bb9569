"""Services of this release and of the one before at one cell, rolled both ways under load.

python -m tests.upgrade.campaign               table models: two members of each kind, four rolls
python -m tests.upgrade.campaign --pair        the embedded models at temperature 0, two rolls

Every stream is compared, token by token, with what plain decoding gives; one that is cut off, repeated or ends
with an error fails the run. Half-way, when every kind runs in both releases, the function library is taken away or
replaced by the older one: the newer one must be back a moment later.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.functions import VERSION, library_version
from shared.streams import connect
from shared.topics import Keys
from tests.faults.cell import PlainDecoding, bodies, pair_bodies
from tests.faults.replacement import Asked
from tests.faults.travellers import Journal
from tests.upgrade.mixed import DOWN, UP, Load, Mixed, Release, mixed
from tests.upgrade.releases import ROOT, previous_release, unpack

NUM_BODIES = 30
MAX_TOKENS = 120
BEFORE_S = 3.0
FENCED = 'adaserve_commits_total{status="FENCED"}'
ROLLS: Sequence[tuple[str, Sequence[str], str]] = (
    ("up", UP, "forget"),
    ("down", DOWN, "older"),
    ("up", DOWN, "older"),
    ("down", UP, "forget"),
)
"""Which way, in which order, and what happens to the function library half-way: last and last but one are not as
docs/releasing.md says, and must do no harm either, as an installer may roll all at once."""


@dataclass
class Rolled:
    """One roll: what clients saw, and the library's version half-way, a moment after it was tampered with."""

    way: str
    order: Sequence[str]
    tampering: str
    journal: Journal
    took_s: float
    library: int


@dataclass
class Result:
    """``dead``: dead letters; ``fenced``: commits of verifiers refused, which were decoded again."""

    release: str
    rolls: list[Rolled] = field(default_factory=list)
    exits: dict[str, int] = field(default_factory=dict)
    dead: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def faults(self) -> list[str]:
        """Everything that must not be."""
        found = [f"{one.way}: {line}" for one in self.rolls for line in one.journal.damage]
        found += [f"{name} ended with {code}" for name, code in self.exits.items() if code]
        found += [f"{self.dead} dead letters"] if self.dead else []
        found += [f"{one.way}: library {one.library} half-way" for one in self.rolls if one.library < VERSION]
        return found + [f"{name}: {line}" for name, line in self.errors]


def campaign(rolls: Sequence[tuple[str, Sequence[str], str]] = ROLLS, *, is_table: bool = True) -> Result:
    """Raises RuntimeError where the release before is not in this clone, or a member does not start."""
    named = previous_release()
    with tempfile.TemporaryDirectory(prefix="ada-release-") as folder:
        old, new = Release("old", unpack(named, Path(folder))), Release("new", ROOT)
        with mixed(old, is_table=is_table) as made:
            return asyncio.run(_campaign(made, old, new, rolls, Result(named), _asked(made, is_table=is_table)))


def _asked(made: Mixed, *, is_table: bool) -> Asked:
    """Known before the load begins: by plain decoding, or at temperature 0 by the old cell undisturbed."""
    if is_table:
        expect = PlainDecoding()
        return [(body, expect(body)) for body in itertools.islice(bodies(7, max_tokens=MAX_TOKENS), NUM_BODIES)]
    port = made.stack.ports[made.of("gateway")[0]]
    plain = {"return_token_ids": True, "adaserve": {"speculation": {"enabled": False}}}

    def expected(body: dict[str, Any]) -> list[int]:
        tokens: list[int] = made.stack.complete({**body, **plain}, port)["choices"][0]["token_ids"]
        return tokens

    return [(body, expected(body)) for body in ({**body, "temperature": 0} for body in pair_bodies())]


async def _campaign(
    made: Mixed,
    old: Release,
    new: Release,
    rolls: Sequence[tuple[str, Sequence[str], str]],
    result: Result,
    asked: Asked,
) -> Result:
    load = Load(made.travellers, itertools.cycle(asked))
    await asyncio.sleep(BEFORE_S)
    for way, order, tampering in rolls:
        journal = made.travellers.journal = Journal()
        started, seen = time.monotonic(), []

        def half_way(tampering: str = tampering, seen: list[int] = seen) -> None:
            made.forget_library() if tampering == "forget" else made.load_library(old)
            time.sleep(1.5)  # the members' own time to mend it
            seen.append(made.library_version())

        await made.roll(new if way == "up" else old, order, half_way)
        took_s = time.monotonic() - started
        result.rolls.append(Rolled(way, order, tampering, journal, took_s, seen[0]))
    await load.stop()
    result.exits = made.exits
    with connect(made.redis_url) as client:
        result.dead = int(client.xlen(Keys("default").dead))
    for name in made.stack.settings:
        lines = made.stack.log(name).splitlines()
        result.errors += Counter((name, line) for line in lines if line.startswith(("ERROR", "Traceback")))
    return result


def report(result: Result) -> None:
    """What was done, and what the clients saw."""
    print(f"release before: {result.release}; libraries {library_version_of(result.release)} and {VERSION}")
    for one in result.rolls:
        whole, journal = one.journal.outcomes["whole"], one.journal
        print(
            f"{one.way:4} in the order {', '.join(one.order)}: {2 * len(one.order)} replicas in {one.took_s:.0f} s"
        )
        print(f"     {whole} streams, {journal.num_tokens} tokens; {dict(journal.outcomes)}")
        print(
            f"     silence of a stream p50 {journal.gap(0.5):.2f} s, p99 {journal.gap(0.99):.2f} s, "
            f"longest {max(journal.gaps, default=0.0):.2f} s"
        )
        what = "taken away" if one.tampering == "forget" else "replaced by the older one"
        print(f"     half-way the library was {what}; a moment later it was {one.library}")
    for line in result.faults[:20]:
        print("  FAULT", line)
    print(f"faults: {len(result.faults)} (goal 0)")


def library_version_of(release: str) -> int:
    """The version of a release's library."""
    with tempfile.TemporaryDirectory(prefix="ada-release-") as folder:
        return library_version(Release("old", unpack(release, Path(folder))).library)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", action="store_true", help="the embedded models instead of tables")
    chosen = parser.parse_args()
    try:
        result = campaign(ROLLS[:2] if chosen.pair else ROLLS, is_table=not chosen.pair)
    except RuntimeError as error:
        sys.exit(str(error))
    report(result)
    sys.exit(bool(result.faults))


if __name__ == "__main__":
    main()
