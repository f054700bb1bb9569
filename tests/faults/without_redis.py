"""Minutes without Redis at a gateway with API keys and a policy: who is whom, and what is theirs, goes on.

    python -m tests.faults.without_redis [--seconds 300]

Asks a gateway of a running cell, twice a second while Redis is dead, with a right key, an unknown one and none,
and for a class that the policy file has only from half time on. Exits with 1 where an answer is not as expected or
later than a second, or where completions do not come again within five seconds of Redis.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx

from shared.api_keys import new_id, new_secret, spelled
from tests.faults.cell import Cell, cell
from tests.faults.server import Server
from tests.key_files import made_for_file

PAUSE_S = 0.5
RELOAD_S = 3.0
BACK_S = 5.0
GOAL_S = 1.0
LATER = "later"
POLICY = """
classes:
  chat: {{}}
{more}
tenants:
  acme: {{classes: [chat{names}], default: chat, rpm: 100000}}
"""


def policy(*, later: bool) -> str:
    """The file before and after half time."""
    return POLICY.format(more=f"  {LATER}: {{}}" if later else "", names=f", {LATER}" if later else "")


def ask(client: httpx.Client, key: str | None, body: dict[str, object] | None) -> tuple[int, str, float]:
    """Status, the error's code, seconds. Without a body: the list of models."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    started = time.monotonic()
    if body is None:
        answer = client.get("/v1/models", headers=headers)
    else:
        answer = client.post("/v1/completions", json=body, headers=headers)
    error = answer.json().get("error") or {}
    return answer.status_code, str(error.get("code", "")), time.monotonic() - started


class Tally:
    """Answers by what was asked, and which of them were not as expected."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, int, str]] = Counter()
        self.wrong: list[str] = []
        self.slowest = 0.0

    def add(self, kind: str, expected: tuple[int, ...], answer: tuple[int, str, float]) -> None:
        status, code, seconds = answer
        self.seen[kind, status, code] += 1
        self.slowest = max(self.slowest, seconds)
        if status not in expected or seconds > GOAL_S:
            self.wrong.append(f"{kind}: {status} {code} after {seconds:.2f} s, expected {expected}")


def away(client: httpx.Client, key: str, file: Path, seconds: float, tally: Tally) -> None:
    """The time without Redis."""
    unknown = spelled(new_id(), new_secret())
    body: dict[str, object] = {"prompt": [5, 6], "max_tokens": 4}
    later = {**body, "adaserve": {"slo": {"class": LATER}}}
    started = time.monotonic()
    reloaded_at = None
    while (now := time.monotonic()) < started + seconds:
        if reloaded_at is None and now > started + seconds / 2:
            file.write_text(policy(later=True))
            reloaded_at = now
        tally.add("right key, models", (200,), ask(client, key, None))
        tally.add("right key, completion", (503,), ask(client, key, body))
        tally.add("unknown key", (401,), ask(client, unknown, body))
        tally.add("no key", (401,), ask(client, None, body))
        if reloaded_at is None:
            tally.add("class the file has not", (400, 403), ask(client, key, later))
        elif time.monotonic() > reloaded_at + RELOAD_S:
            tally.add("class the file has got", (503,), ask(client, key, later))
        time.sleep(PAUSE_S)


def back_s(client: httpx.Client, key: str) -> float:
    """Seconds from Redis' return to the first completion."""
    started = time.monotonic()
    while time.monotonic() < started + 60:
        status, _, _ = ask(client, key, {"prompt": [5, 6], "max_tokens": 4, "adaserve": {"slo": {"class": LATER}}})
        if status == 200:
            break
        time.sleep(0.05)
    return time.monotonic() - started


def campaign(seconds: float) -> tuple[Tally, float]:
    """What was answered without Redis, and how long until it was as before."""
    with tempfile.TemporaryDirectory(prefix="ada-alone-") as folder:
        keys, file = Path(folder) / "keys.yaml", Path(folder) / "policy.yaml"
        entry, key = made_for_file("--tenant", "acme")
        keys.write_text(f"keys:\n{entry}")
        file.write_text(policy(later=False))
        options = {"gateway": {"KEYS_FILE": str(keys), "POLICY_FILE": str(file)}}
        server = Server(Path(folder))
        server.start()
        tally = Tally()
        try:
            with cell(server.url, num_verifiers=1, options=options) as running, opened(running) as client:
                assert ask(client, key, {"prompt": [5, 6], "max_tokens": 4})[0] == 200
                server.kill()
                away(client, key, file, seconds, tally)
                server.start()
                return tally, back_s(client, key)
        finally:
            server.close()


def opened(running: Cell) -> httpx.Client:
    """A client of the cell's gateway."""
    return httpx.Client(base_url=f"http://127.0.0.1:{running.gateways[0]}", timeout=30)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    options = parser.parse_args(arguments)
    tally, back = campaign(options.seconds)
    for (kind, status, code), count in sorted(tally.seen.items()):
        print(f"{kind:<26} {status} {code:<24} {count:>6}")
    print(f"slowest answer {tally.slowest:.2f} s (goal {GOAL_S:g})")
    print(f"completions again {back:.2f} s after Redis (goal {BACK_S:g})")
    for line in tally.wrong[:10]:
        print(f"NOT EXPECTED {line}")
    return 1 if tally.wrong or back > BACK_S else 0


if __name__ == "__main__":
    sys.exit(main())
