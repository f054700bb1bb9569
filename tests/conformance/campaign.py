"""Schemathesis on a running cell and its OpenAPI document: every phase, ten thousand cases.

python -m tests.conformance.campaign                          real gateway, Redis, ring; table models
python -m tests.conformance.campaign --pair                   the embedded pair in their place
python -m tests.conformance.campaign --cases 400 --seed 7     a shorter one

Rounds with the seeds seed, seed + 1, … until so many cases have been sent, the first with all phases, the others
with those that draw. Every request presents a key of all scopes (`guarded`), for without one it would be refused
at the door; lengths are cut to a few tokens before it is sent (`servable`). Prints cases, answers
by status, seconds, and every failure with what repeats it.

Checks that are off, and why:

- positive_data_acceptance: what JSON Schema cannot say is still refused, with a 400 that names the field: a prompt
  and max_tokens beyond the context, token ids beyond the vocabulary, stream_options without stream, another model.
- use_after_free: DELETE cancels a stream and does not delete it; how it ended can be read for ten minutes.
- object_level_authorization, missing_required_header: the one key is of one tenant and may do everything, and no
  operation has a required header (`tests/unit/services/gateway/test_openapi.py` tries every operation with a key
  of another scope).

One kind of failure is not counted: unknown headers are to be ignored (RFC 9110, 5.1; `hooks.filter_failure`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.gateway.description.document import OPERATIONS
from shared.api_keys import Scope
from shared.embedded_redis import EmbeddedRedis
from tests.conformance import servable
from tests.faults.cell import cell
from tests.key_files import made_for_file

COUNTS, OWN_KEY = "CONFORMANCE_COUNTS", "CONFORMANCE_KEY"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ensure_resource_availability",
    "ignored_auth",
    "events_conformance",
)
ALL_PHASES = ("examples", "coverage", "fuzzing", "stateful")
DRAWING = ("fuzzing", "stateful")
ROOT = Path(__file__).parents[2]
NUM_OPERATIONS = len(OPERATIONS)
MAX_EXAMPLES = 200  # of an operation in a round
WORKERS = 1  # CPython 3.11 parses source in one thread at a time only, and hypothesis does so to show a strategy
REQUEST_TIMEOUT_S = 120


@dataclass(frozen=True)
class Guarded:
    """Settings of a cell that asks everybody for a key, and the key."""

    options: dict[str, dict[str, str]]
    key: str


@contextmanager
def guarded() -> Iterator[Guarded]:
    """Requests that would revoke or rotate this very key are sent for another one (`hooks.before_call`)."""
    entry, key = made_for_file(
        "--tenant", servable.TENANT, *(word for scope in Scope for word in ("--scope", scope))
    )
    with tempfile.NamedTemporaryFile("w", prefix="ada-keys-", suffix=".yaml") as file:
        file.write(f"keys:\n{entry}")
        file.flush()
        settings = {"DEFAULT_MAX_TOKENS": str(servable.MAX_TOKENS), "KEYS_FILE": file.name}
        yield Guarded({"gateway": settings}, key)


@dataclass
class Found:
    """Of all rounds."""

    statuses: Counter[str] = field(default_factory=Counter)
    num_rounds: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def num_cases(self) -> int:
        return self.statuses.total()


def run(
    url: str, key: str, num_cases: int, seed: int, *, phases: Sequence[str] = ALL_PHASES, paths: Sequence[str] = ()
) -> Found:
    """Rounds on a gateway until so many cases have been sent, or one has failed; on all paths unless told."""
    found = Found()
    while found.num_cases < num_cases and not found.failures:
        left = num_cases - found.num_cases
        num_examples = max(2, min(MAX_EXAMPLES, left // NUM_OPERATIONS))
        chosen = phases if found.num_rounds == 0 else DRAWING
        only = [word for path in paths for word in ("--include-path", path)]
        which = ["--phases", ",".join(chosen), "--header", f"Authorization: Bearer {key}", *only]
        _round(url, key, found, seed + found.num_rounds, num_examples, which)
    return found


def _round(url: str, key: str, found: Found, seed: int, num_examples: int, which: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="ada-conformance-") as folder:
        report, counts = Path(folder) / "report.json", Path(folder) / "counts.json"
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--no-color", "run", f"{url}/openapi.json"),
            *which,
            *("--checks", ",".join(CHECKS)),
            *("--seed", str(seed), "--max-examples", str(num_examples), "--workers", str(WORKERS)),
            *("--continue-on-failure", "--generation-database", "none", "--no-shrink"),
            *("--generation-with-security-parameters", "false"),  # made-up keys would all be refused alike
            *("--suppress-health-check", "all", "--warnings", "off", "--request-timeout", str(REQUEST_TIMEOUT_S)),
            *("--report", "json", "--report-json-path", str(report)),
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.conformance.hooks",
            COUNTS: str(counts),
            OWN_KEY: key,
        }
        done = subprocess.run(
            command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        statuses = Counter(json.loads(counts.read_text())) if counts.exists() else Counter()
        found.statuses += statuses
        found.num_rounds += 1
        if done.returncode or not statuses:
            found.failures.append(f"seed {seed}: {_told(done.stdout)}")


def _told(output: str) -> str:
    """What schemathesis says of its failures and errors."""
    starts = [at for word in ("= ERRORS", "= FAILURES") if (at := output.find(word)) >= 0]
    return output[min(starts, default=0) :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pair", action="store_true")
    options = parser.parse_args()
    begun = time.monotonic()
    with (
        guarded() as guard,
        EmbeddedRedis() as redis,
        cell(redis.url, num_verifiers=1, is_table=not options.pair, options=guard.options) as running,
    ):
        found = run(running.stack.url, guard.key, options.cases, options.seed)
    for failure in found.failures:
        print(failure)
    for status, count in sorted(found.statuses.items()):
        print(f"{status}  {count:7,}")
    print(
        f"{found.num_cases:,} cases in {found.num_rounds} rounds, {len(CHECKS)} checks, "
        f"{len(found.failures)} rounds with failures, {time.monotonic() - begun:.0f} s"
    )
    raise SystemExit(bool(found.failures) or found.num_cases < options.cases)


if __name__ == "__main__":
    main()
