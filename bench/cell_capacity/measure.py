"""A cell under load, and what Redis says of its own CPU time meanwhile."""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from redis import Redis

from bench.cell_capacity.costs import Window
from bench.local import LocalStack, local_stack
from bench.prompts import source_prompts
from shared.streams import connect

PACED = {"verifier": "tests.faults.table_verifier", "drafter": "tests.faults.table_drafter"}
WARM_UP_S = 1.5
PLAIN = (0, 0)
RINGS = "steps with trees"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests at a time, and how long their answers are; ``depth`` and ``width`` of trees, (0, 0) for none."""

    running: int
    tokens: int
    depth: int
    width: int


@dataclass
class Seen:
    """Counters at a moment. ``commands``: name -> µs that Redis has spent in it."""

    at_s: float
    cpu_us: float
    commands: Mapping[str, float] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)


def look(client: Redis, stack: LocalStack) -> Seen:
    """Redis first: what is counted afterwards belongs to it to within a step."""
    cpu: Mapping[str, Any] = client.info("cpu")
    stats: Mapping[str, Any] = client.info("commandstats")
    used = cpu.get("used_cpu_user_main_thread", cpu["used_cpu_user"])
    used += cpu.get("used_cpu_sys_main_thread", cpu["used_cpu_sys"])
    names = {name.removeprefix("cmdstat_"): told for name, told in stats.items()}
    return Seen(
        time.monotonic(),
        1e6 * float(used),
        {name: float(told["usec"]) for name, told in names.items()},
        {name: int(told["calls"]) for name, told in names.items()},
        counters(stack),
    )


_LINE = re.compile(r"^(adaserve_\w+)(\{[^}]*\})? (\S+)$", re.MULTILINE)


def counters(stack: LocalStack) -> dict[str, float]:
    """Sums over labels of the counters that tell what was done."""
    wanted = (RINGS, "steps_total", "commits_total", "draft_tokens_proposed_total", "requests_finished_total")
    found = dict.fromkeys(wanted, 0.0)
    for service in ("verifier", "drafter"):
        for name, labels, value in _LINE.findall(stack.metrics(service)):
            short = name.removeprefix("adaserve_")
            if short in found and 'kind="prefill"' not in labels:
                found[short] += float(value)
            if short == "steps_total" and 'kind="speculative"' in labels:
                found[RINGS] += float(value)
    return found


def window(before: Seen, after: Seen) -> Window:
    """What was done between two looks."""
    done = {name: after.counters[name] - before.counters[name] for name in after.counters}
    return Window(
        seconds=after.at_s - before.at_s,
        cpu_us=after.cpu_us - before.cpu_us,
        iterations=done["steps_total"],
        rings=done[RINGS],
        rows=done["commits_total"],
        nodes=done["draft_tokens_proposed_total"],
        requests=done["requests_finished_total"],
    )


def by_command(before: Seen, after: Seen) -> dict[str, tuple[int, float]]:
    """Command -> calls and µs between two looks, the dearest first."""
    spent = {name: us - before.commands.get(name, 0.0) for name, us in after.commands.items()}
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    return {name: (after.calls[name] - before.calls.get(name, 0), us) for name, us in ordered if us > 0}


@contextmanager
def cell(depth: int, width: int) -> Iterator[tuple[LocalStack, Redis]]:
    """Services with table models whose trees have this depth and width, whatever they cost."""
    selector = (
        {} if (depth, width) == PLAIN else {"POLICY": "paper", "MAX_DEPTH": str(depth), "MAX_WIDTH": str(width)}
    )
    settings = {
        "selector": selector,
        "gateway": {"QUEUE_LIMIT": "1000"},
        "verifier": {"MAX_RUNNING": "64", "RING_DEADLINE_CAP_MS": "2000"},
    }
    with (
        tempfile.TemporaryDirectory(prefix="ada-aof-") as data,
        local_stack(settings, modules=PACED, data_dir=Path(data)) as stack,
        connect(stack.redis_url) as client,
    ):
        yield stack, client


@contextmanager
def loaded(stack: LocalStack, load: Load) -> Iterator[None]:
    """So many clients, each asking again as soon as it is answered; at its end their last requests do."""
    is_over, prompts = Event(), source_prompts(64, seed=3, max_chars=200)

    def client(seed: int) -> None:
        chance = random.Random(seed)
        while not is_over.is_set():
            asked = {
                "prompt": chance.choice(prompts),
                "max_tokens": load.tokens,
                "temperature": 0,
                "ignore_eos": True,
                "adaserve": {"speculation": {"enabled": load.depth > 0}},
            }
            stack.complete(asked)

    with ThreadPoolExecutor(load.running) as clients:
        running = [clients.submit(client, seed) for seed in range(load.running)]
        try:
            time.sleep(WARM_UP_S)
            yield
        finally:
            is_over.set()
        for one in running:
            one.result()


def measured(loads: Sequence[Load], seconds: float) -> tuple[Window, list[tuple[Load, Window]], dict[str, Any]]:
    """An idle window, one for each load, and by command those of the last. Loads of one shape share a cell."""
    idle: Window | None = None
    found: list[tuple[Load, Window]] = []
    commands: dict[str, Any] = {}
    for depth, width in dict.fromkeys((load.depth, load.width) for load in loads):
        with cell(depth, width) as (stack, client):
            if idle is None:
                time.sleep(WARM_UP_S)
                before = look(client, stack)
                time.sleep(seconds)
                idle = window(before, look(client, stack))
            for load in (one for one in loads if (one.depth, one.width) == (depth, width)):
                with loaded(stack, load):
                    before = look(client, stack)
                    time.sleep(seconds)
                    after = look(client, stack)
                found.append((load, window(before, after)))
                commands = by_command(before, after)
    assert idle is not None
    return idle, found, commands
