"""Clients that leave in every phase of a request: afterwards nothing is held for them any more.

python -m tests.faults.leavers                          10,000 clients, table models
python -m tests.faults.leavers --clients 500 --warm-up 200

After a warm-up round the cell's KV blocks, keys, memory and files are noted; after the campaign they must be back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis

from shared.embedded_redis import EmbeddedRedis
from shared.streams import connect
from shared.topics import CONTROL, Keys
from tests.faults.cell import Cell, cell, kind_of
from tests.faults.sse import Answer, ask

KEYS = Keys("default")
AT_ONCE = 64
MAX_RUNNING = 12  # of each verifier: about half of the clients wait in the queue
GRACE_S = 1.0
SETTLE_S = 20.0
GOAL_MS = 500.0
UNCANCELLED_GOAL = 0.2
RSS_TOLERANCE_MB = 24.0
OPTIONS = {
    "gateway": {"RESUME_GRACE_S": str(GRACE_S)},
    "verifier": {"MAX_RUNNING": str(MAX_RUNNING), "PREFILL_CHUNK": "16"},
}
ENDS = ("RST", "FIN")


class Leaver:
    """One client: asks, leaves in its own way, and remembers when. ``stream`` where it came to know it."""

    def __init__(self, port: int, chance: random.Random, number: int) -> None:
        self.port, self.chance = port, chance
        self.is_streaming, self.is_resumable = chance.random() < 0.7, chance.random() < 0.3
        self.end = chance.choice(ENDS)
        self.num_tokens = chance.randint(8, 24)
        self.body = {
            "model": "default",
            "prompt": [chance.randrange(3, 256) for _ in range(chance.randint(1, 96))],
            "max_tokens": self.num_tokens,
            "ignore_eos": True,
            "seed": number,
            "return_token_ids": True,
            "stream": self.is_streaming,
            "adaserve": {"resumable": self.is_resumable},
        }
        self.stream = ""
        self.left_ms = 0.0  # wall clock, as the ids of Redis' streams

    async def open(self) -> Answer:
        return await ask(self.port, "POST", "/v1/completions", self.body)

    def leave(self, answer: Answer) -> None:
        (answer.reset if self.end == "RST" else answer.leave)()
        self.left_ms = time.time() * 1000

    async def headers(self, answer: Answer) -> None:
        await answer.head()
        if answer.status != 200:
            raise ConnectionError(f"status {answer.status}")
        self.stream = answer.headers["x-adaserve-stream"]

    async def tokens(self, answer: Answer, count: int) -> bool:
        """Read on until so many tokens have come; whether they did before the end."""
        got = 0
        async for name, value in answer.fields():
            if name != "data" or value == "[DONE]":
                continue
            got += sum(len(choice.get("token_ids") or ()) for choice in json.loads(value).get("choices", ()))
            if got >= count:
                return True
        return False


async def while_sending(leaver: Leaver) -> None:
    """A part of the body has been sent."""
    answer = await ask(leaver.port, "POST", "/v1/completions", leaver.body, {"content-length": "5000"})
    leaver.leave(answer)


async def before_headers(leaver: Leaver) -> None:
    """Nothing has been answered."""
    answer = await leaver.open()
    await asyncio.sleep(leaver.chance.choice((0.0, 0.005)))
    leaver.leave(answer)


async def waiting(leaver: Leaver) -> None:
    """Queued, or its prompt is fed: a stream's headers come when the request is queued."""
    answer = await leaver.open()
    if leaver.is_streaming:
        await leaver.headers(answer)
    await asyncio.sleep(leaver.chance.uniform(0.0, 0.2))
    leaver.leave(answer)


async def first_token(leaver: Leaver) -> None:
    """The prompt has just been fed."""
    await between_tokens(leaver, 1)


async def between_tokens(leaver: Leaver, count: int | None = None) -> None:
    """Some tokens have come; a client that does not stream has waited for a while."""
    answer = await leaver.open()
    if leaver.is_streaming:
        await leaver.headers(answer)
        await leaver.tokens(answer, count or leaver.chance.randint(2, leaver.num_tokens - 1))
    else:
        await asyncio.sleep(leaver.chance.uniform(0.1, 0.5))
    leaver.leave(answer)


async def at_the_end(leaver: Leaver) -> None:
    """The last token has come, the end has not been read."""
    answer = await leaver.open()
    await leaver.headers(answer)
    if leaver.is_streaming:
        await leaver.tokens(answer, leaver.num_tokens)
    leaver.leave(answer)


async def by_name(leaver: Leaver) -> None:
    """DELETE of the stream by another connection; the client reads what comes."""
    leaver.body["stream"] = True
    answer = await leaver.open()
    await leaver.headers(answer)
    await leaver.tokens(answer, leaver.chance.randint(1, 8))
    deleting = await ask(leaver.port, "DELETE", f"/v1/streams/{leaver.stream}")
    leaver.left_ms = time.time() * 1000
    await deleting.head()
    deleting.leave()
    leaver.is_resumable = False  # it is cancelled at once all the same
    await leaver.tokens(answer, leaver.num_tokens + 1)
    answer.leave()


PHASES: dict[str, Callable[[Leaver], Awaitable[None]]] = {
    "while sending": while_sending,
    "before headers": before_headers,
    "waiting": waiting,
    "first token": first_token,
    "between tokens": between_tokens,
    "at the end": at_the_end,
    "DELETE": by_name,
}


@dataclass
class Notes:
    """How many clients left in which way, and how long their cancel took to leave the gateway, in ms."""

    counts: Counter[str] = field(default_factory=Counter)
    left: dict[str, float] = field(default_factory=dict)  # stream -> wall clock, of those not cancelled yet
    delays: list[float] = field(default_factory=list)
    num_cancels: int = 0

    @property
    def uncancelled(self) -> float:
        """Share of those whose requests should have ended with them, that went on: a few have just ended."""
        return len(self.left) / max(1, len(self.left) + len(self.delays))

    def delay(self, quantile: float) -> float:
        ordered = sorted(self.delays)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else 0.0


async def crowd(port: int, count: int, seed: int, client: Redis) -> Notes:
    """``count`` clients, AT_ONCE at a time, while the cancels they cause are read."""
    notes = Notes()
    numbers = iter(range(seed, seed + count))
    reading = asyncio.create_task(_read_cancels(client, notes))

    async def one_after_the_other() -> None:
        for number in numbers:
            chance = random.Random(number)
            name = chance.choice(list(PHASES))
            leaver = Leaver(port, chance, number)
            try:
                await PHASES[name](leaver)
            except (OSError, TimeoutError) as error:
                notes.counts[f"failed: {error}"] += 1
                continue
            notes.counts[f"{name}, {leaver.end}"] += 1
            if leaver.stream and not leaver.is_resumable and name != "at the end":
                notes.left[leaver.stream] = leaver.left_ms

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
    await asyncio.sleep(2 * GRACE_S)
    reading.cancel()
    return notes


async def _read_cancels(client: Redis, notes: Notes) -> None:
    """The ids of `control` are Redis' clock, which is this machine's."""
    sent: dict[str, float] = {}
    cursor = b"$" if not client.exists(KEYS.control) else client.xinfo_stream(KEYS.control)["last-generated-id"]
    cursor = b"0-0" if cursor == b"$" else cursor
    while True:
        for _, entries in client.xread({KEYS.control: cursor}, count=1000) or ():
            for cursor, fields in entries:
                event = CONTROL.decode(fields[b"body"])
                if event.kind == "cancel":
                    notes.num_cancels += 1
                    sent[event.subject] = float(cursor.split(b"-")[0])
        for stream in sent.keys() & notes.left.keys():
            notes.delays.append(max(0.0, sent.pop(stream) - notes.left.pop(stream)))
        await asyncio.sleep(0.1)


@dataclass(frozen=True)
class Holdings:
    """What the cell holds: KV blocks, open streams, keys without expiry by kind, files and memory by member."""

    kv: dict[str, float]
    open_streams: float
    keys: Counter[str]
    files: dict[str, int]
    rss_mb: dict[str, float]
    retired: int

    @property
    def is_idle(self) -> bool:
        return not any(self.kv.values()) and not self.open_streams and not self.keys["request"]


def holdings(target: Cell, client: Redis) -> Holdings:
    """Now."""
    metrics = {name: target.stack.metrics(name) for name in target.names if kind_of(name) != "selector"}
    keys = [key.decode() for key in client.scan_iter(match=f"{KEYS.prefix}*", count=1000)]
    lasting = [key for key, ttl in zip(keys, _ttls(client, keys), strict=True) if ttl == -1]
    pids = {name: process.pid for name, process in target.stack.processes.items()}
    return Holdings(
        kv={name: _gauge(text, 'kv_blocks{state="used"}') for name, text in metrics.items() if name != "gateway"},
        open_streams=_gauge(metrics["gateway"], "open_streams"),
        keys=Counter(key.removeprefix(KEYS.prefix).partition(":")[0] for key in lasting),
        files={name: _num_files(pid) for name, pid in pids.items()},
        rss_mb={name: _rss_mb(pid) for name, pid in pids.items()},
        retired=len(keys) - len(lasting),
    )


def _ttls(client: Redis, keys: list[str]) -> list[int]:
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.ttl(key)
    ttls: list[int] = pipeline.execute()
    return ttls


def _gauge(text: str, name: str) -> float:
    lines = (line for line in text.splitlines() if line.startswith(f"adaserve_{name}"))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _num_files(pid: int) -> int:
    """Open files and TCP sockets. Not those to Redis: the gateway keeps a pool of them, 64 at most."""
    unix = {line.split()[6] for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]}
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(re.sub(r"socket:\[(\d+)\]", r"\1", link) not in unix for link in links)


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


def settled(target: Cell, client: Redis) -> Holdings:
    """Once nothing is held for any request, or after SETTLE_S."""
    ends = time.monotonic() + SETTLE_S
    while True:
        found = holdings(target, client)
        if found.is_idle or time.monotonic() > ends:
            return found
        time.sleep(0.25)


def cancel_time(target: Cell) -> tuple[int, dict[float, int]]:
    """Of all verifiers: requests cancelled while they held slots, and how many of them within so many seconds."""
    total, buckets = 0, Counter[float]()
    for name in target.names:
        if kind_of(name) == "verifier":
            for bound, count in re.findall(
                r'adaserve_cancel_time_seconds_bucket\{le="([^"]+)"\} (\S+)', target.stack.metrics(name)
            ):
                buckets[float(bound.replace("+Inf", "inf"))] += int(float(count))
    total = buckets[float("inf")]
    return total, dict(sorted(buckets.items()))


@dataclass(frozen=True)
class Result:
    """What was held before and after the campaign, and how long cancels took."""

    notes: Notes
    before: Holdings
    after: Holdings
    num_freed: int
    freed_within: Mapping[float, int]
    took_s: float

    def freed_ms(self, quantile: float) -> float:
        """Upper bound of the time from a cancel to free slots."""
        return 1000 * next(
            (bound for bound, count in self.freed_within.items() if count >= quantile * self.num_freed), 0.0
        )

    @property
    def leaks(self) -> list[str]:
        before, after = self.before, self.after
        found = [f"{name} holds {count:.0f} KV blocks" for name, count in after.kv.items() if count]
        found += [f"{after.open_streams:.0f} open streams"] if after.open_streams else []
        found += [
            f"{count} keys {kind} without expiry, {before.keys[kind]} before"
            for kind, count in after.keys.items()
            if count > before.keys[kind]
        ]
        found += [
            f"{name} has {count} files open, {before.files[name]} before"
            for name, count in after.files.items()
            if count > before.files[name] + 4
        ]
        found += [
            f"{name} has grown from {before.rss_mb[name]:.0f} to {size:.0f} MB"
            for name, size in after.rss_mb.items()
            if size > before.rss_mb[name] + RSS_TOLERANCE_MB
        ]
        return found


@contextlib.contextmanager
def standing() -> Iterator[tuple[Cell, Redis]]:
    """A cell whose verifiers take few requests at a time."""
    with EmbeddedRedis() as redis, cell(redis.url, num_verifiers=2, options=OPTIONS) as target:
        client = connect(redis.url)
        try:
            yield target, client
        finally:
            client.close()


def campaign(num_clients: int, num_warm_up: int) -> Result:
    """The warm-up round, a look, all clients, a look."""
    with standing() as (target, client):
        port = target.stack.ports["gateway"]
        asyncio.run(crowd(port, num_warm_up, 10**6, client))
        before = settled(target, client)
        started = time.monotonic()
        notes = asyncio.run(crowd(port, num_clients, 1, client))
        took_s = time.monotonic() - started
        return Result(notes, before, settled(target, client), *cancel_time(target), took_s)


def report(result: Result) -> None:
    """Who left how, what was held, how long it took."""
    notes, before, after = result.notes, result.before, result.after
    print(f"{sum(notes.counts.values())} clients in {result.took_s:.0f} s, {notes.num_cancels} cancels sent")
    for name, count in sorted(notes.counts.items()):
        print(f"    {name}: {count}")
    print("KV blocks in use afterwards:", ", ".join(f"{name} {count:.0f}" for name, count in after.kv.items()))
    print(
        f"keys without expiry: {dict(before.keys)} before, {dict(after.keys)} after; {after.retired} with expiry"
    )
    for name, size in after.rss_mb.items():
        files = f"{before.files[name]} -> {after.files[name]} files"
        print(f"    {name}: {before.rss_mb[name]:.0f} -> {size:.0f} MB, {files}")
    print(
        f"client gone until cancel sent: p50 {notes.delay(0.5):.0f} ms, p99 {notes.delay(0.99):.0f} ms "
        f"({len(notes.delays)} clients; {notes.uncancelled:.1%} ended just before, goal {UNCANCELLED_GOAL:.0%})"
    )
    print(
        f"cancel sent until slots free: p50 at most {result.freed_ms(0.5):.0f} ms, "
        f"p99 at most {result.freed_ms(0.99):.0f} ms ({result.num_freed} requests)"
    )
    print(f"sum of both p99: {notes.delay(0.99) + result.freed_ms(0.99):.0f} ms (goal {GOAL_MS:.0f} ms)")
    print("leaks:", "; ".join(result.leaks) or "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--warm-up", type=int, default=1_500)
    chosen = parser.parse_args()
    result = campaign(chosen.clients, chosen.warm_up)
    report(result)
    raise SystemExit(bool(result.leaks) or result.notes.uncancelled > UNCANCELLED_GOAL)


if __name__ == "__main__":
    main()
