"""Requests with a word of their own in everything a client may send: it must turn up nowhere but with its client.

python -m tests.faults.canaries                          500 clients of two tenants, table models
python -m tests.faults.canaries --clients 10000

Some requests are refused, some are left at a random moment, some are streamed. Every whole answer is compared with
plain decoding of its own prompt and seed. Then the words are looked for in what every client was sent, in the logs
of all processes at debug level, in exported spans and metrics, in /metrics, and in every key of Redis, where only
documented kinds may hold them (docs/faults.md).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from redis import Redis

from services.gateway.admission import new_id
from shared import scripts
from shared.embedded_redis import EmbeddedRedis
from shared.records import Origin
from shared.scripts import call
from shared.streams import connect
from shared.tokenizer import Tokenizer, load_tokenizer
from shared.topics import RETAIN_MS, Keys
from tests.faults.cell import Cell, PlainDecoding, cell
from tests.faults.leavers import settled
from tests.faults.sse import Answer, ask
from tests.otlp import Collector, collector

KEYS = Keys("default")
AT_ONCE = 32
NUM_POISONOUS = 5
TENANTS = ("acme", "globex")
POLICY = "classes:\n  any: {tier: 1}\ntenants:\n" + "".join(
    f"  {name}: {{classes: [any], default: any}}\n" for name in TENANTS
)
CANARY_STEM = "canary"
CANARY = re.compile(rf"{CANARY_STEM}[0-9a-f]{{16}}", re.IGNORECASE)
HOLDERS = {"request": "the request itself, for ten minutes after its end", "draft": "the newest 256 hints, as ids"}
"""Kinds of keys that may hold a client's words, as text or token ids."""
GONE = -2  # what PTTL says of a key that has expired since it was read


def canary(number: int) -> str:
    """The word of a request; no two have the same, and no model here writes one."""
    return f"{CANARY_STEM}{random.Random(f'canary {number}').getrandbits(64):016x}"


@dataclass
class Campaign:
    """What is known of each request, and what clients saw."""

    port: int
    tokenizer: Tokenizer
    expect: PlainDecoding
    outcomes: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)
    streams: list[tuple[str, str]] = field(default_factory=list)  # tenant, request

    def body(self, number: int) -> dict[str, Any]:
        """A valid request with its word in every free field."""
        word, chance = canary(number), random.Random(number)
        return {
            "model": "default",
            "prompt": f"{'Every prompt begins like this. ' * chance.randint(0, 2)}{word} says {number}",
            "max_tokens": chance.randint(4, 16),
            "temperature": chance.choice((0, 1)),
            "seed": number,
            "ignore_eos": True,
            "stop": [f"{word}!"],
            "user": word,
            "metadata": {"note": word, word: "key"},
            "return_token_ids": True,
            "stream": chance.random() < 0.6,
            "adaserve": {"inspect": chance.random() < 0.3},
        }

    async def visit(self, number: int) -> None:
        """One client: whole, leaving, or refused."""
        chance = random.Random(-number)
        kind = chance.choices(("whole", "leaves", "invalid", "steals"), (6, 2, 3, 1))[0]
        tenant, body = TENANTS[number % 2], self.body(number)
        headers = {"x-adaserve-tenant": tenant, "x-request-id": f"visit-{number}"}
        if kind == "invalid":
            name, content = broken(body, canary(number), chance)
            await self._refused(name, content, number, headers)
        elif kind == "steals":
            await self._steal(chance, tenant, number, headers)
        else:
            await self._served(body, number, headers, leaves=kind == "leaves", chance=chance)

    async def _served(
        self, body: dict[str, Any], number: int, headers: dict[str, str], *, leaves: bool, chance: random.Random
    ) -> None:
        answer = await ask(self.port, "POST", "/v1/completions", body, headers)
        reading = asyncio.create_task(self._read(answer, number, headers["x-adaserve-tenant"], body))
        if leaves:
            await asyncio.wait([reading], timeout=chance.uniform(0.0, 0.4))
            if not reading.done():
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                (answer.reset if chance.random() < 0.5 else answer.leave)()
                self.outcomes["left"] += 1
                return
        await reading
        answer.leave()

    async def _read(self, answer: Answer, number: int, tenant: str, body: Mapping[str, Any]) -> None:
        await answer.head()
        if answer.status != 200:
            self.damage.append(f"request {number} was answered with {answer.status}")
            return
        self.streams.append((tenant, answer.headers["x-adaserve-stream"]))
        chunks, told = [], []
        if body["stream"]:
            async for name, value in answer.fields():
                told.append(value)
                if name == "data" and value != "[DONE]":
                    chunks.append(json.loads(value))
        else:
            chunks.append(await answer.body())
            told.append(json.dumps(chunks[0]))
        self._look("".join(told) + str(answer.headers), number)
        self._compare(chunks, number, body)

    def _compare(self, chunks: list[dict[str, Any]], number: int, body: Mapping[str, Any]) -> None:
        choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
        prompt = [token for choice in choices for token in choice.get("prompt_token_ids") or ()]
        tokens = [token for choice in choices for token in choice.get("token_ids") or ()]
        text = "".join(choice["text"] for choice in choices)
        own = self.tokenizer.encode(body["prompt"], special=True)
        expected = list(self.expect({**body, "prompt": own}))
        if (prompt, tokens) != (own, expected) or text != self.tokenizer.decode(expected):
            self.damage.append(f"request {number} got another answer than its own")
        self.outcomes["streamed" if body["stream"] else "whole"] += 1

    async def _refused(self, name: str, content: Any, number: int, headers: dict[str, str]) -> None:
        answer = await ask(self.port, "POST", "/v1/completions", content, headers)
        await answer.head()
        error = await answer.body()
        answer.leave()
        self._look(json.dumps(error) + str(answer.headers), number)
        if answer.status != 400 or "error" not in error:
            self.damage.append(f"{name}: status {answer.status}")
        self.outcomes[f"refused: {name}"] += 1

    async def _steal(self, chance: random.Random, tenant: str, number: int, headers: dict[str, str]) -> None:
        """Another tenant's stream is not there."""
        others = [request for owner, request in self.streams[-50:] if owner != tenant]
        if not others:
            return
        for method, rest in (("GET", ""), ("GET", "/inspect"), ("DELETE", "")):
            answer = await ask(self.port, method, f"/v1/streams/{chance.choice(others)}{rest}", None, headers)
            await answer.head()
            self._look(json.dumps(await answer.body()), number)
            answer.leave()
            if answer.status != 404:
                self.damage.append(f"{method} of another tenant's stream: {answer.status}")
        self.outcomes["another tenant's stream"] += 1

    def _look(self, told: str, number: int) -> None:
        for word in set(CANARY.findall(told)):
            whose = "its own" if word == canary(number) else "another's"
            self.damage.append(f"request {number} was told {whose} word: {told[:300]}")


def broken(body: dict[str, Any], word: str, chance: random.Random) -> tuple[str, Any]:
    """A way to be refused, with the word in what is refused."""
    ways: dict[str, Any] = {
        "prompt is an object": {**body, "prompt": {word: word}},
        "prompt is too long": {**body, "prompt": word * 400},
        "stop is too long": {**body, "stop": word * 60},
        "too many stops": {**body, "stop": [word] * 17},
        "stop is no text": {**body, "stop": [word, 7, {word: word}]},
        "user is too long": {**body, "user": word * 30},
        "user is a list": {**body, "user": [word]},
        "metadata is flat": {**body, "metadata": word},
        "metadata has too many pairs": {**body, "metadata": {f"{word}{n}": word for n in range(17)}},
        "metadata holds a number": {**body, "metadata": {word: 1}},
        "another field is wrong": {**body, "temperature": 9},
        "a tool": {**body, "tools": [{"type": "function", "function": {"name": word, "description": word}}]},
        "a bias on a word": {**body, "logit_bias": {word: 1}},
    }
    name = chance.choice(list(ways))
    return name, ways[name]


async def crowd(campaign: Campaign, count: int) -> None:
    """``count`` clients, AT_ONCE at a time."""
    numbers = iter(range(1, count + 1))

    async def one_after_the_other() -> None:
        for number in numbers:
            try:
                await campaign.visit(number)
            except (OSError, TimeoutError) as error:
                campaign.outcomes[f"failed: {type(error).__name__}"] += 1

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))


def poison(client: Redis, count: int) -> list[str]:
    """Requests that no verifier can read, with words in them: they become dead letters. Their words."""
    words = [canary(-number - 1) for number in range(count)]
    for word in words:
        origin = Origin(
            body=f"{word} is no message".encode(), tenant=TENANTS[0], tier=1, seed=1, gateway="", traceparent=None
        )
        queueing = scripts.enqueue(
            KEYS, request=new_id(), origin=origin, position=1, digest="00" * 8, limit=1_000_000
        )
        call(client, queueing)
    return words


def values_of(client: Redis, key: bytes) -> bytes:
    """All that a key holds, in one piece; nothing for a key that has just expired."""
    readers: dict[bytes, Any] = {
        b"hash": client.hgetall,
        b"stream": client.xrange,
        b"string": client.get,
        b"set": client.smembers,
        b"zset": lambda name: client.zrange(name, 0, -1),
        b"list": lambda name: client.lrange(name, 0, -1),
        b"none": lambda _: b"",
    }
    return b"\n".join(_flat(readers[client.type(key)](key)))


def _flat(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, Mapping):
        yield from _flat([*value.keys(), *value.values()])
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _flat(item)


@dataclass(frozen=True)
class Found:
    """Where words were found: hits that may not be, and how many keys of each kind legitimately hold some."""

    hits: list[str]
    held: Counter[str]
    num_dead: int
    searched: dict[str, int]  # bytes


def search(target: Cell, client: Redis, received: Collector, tokenizer: Tokenizer, words: list[str]) -> Found:
    """Everything that outlives a request."""
    stack = target.stack
    places = {f"the log of {name}": stack.log(name).encode() for name in target.names}
    places |= {f"/metrics of {name}": stack.metrics(name).encode() for name in target.names}
    places["spans and metrics sent by OTLP"] = b"\n".join(received.bodies)
    pattern = re.compile(CANARY.pattern.encode(), re.IGNORECASE)
    hits = [f"{place}: {match.decode()}" for place, text in places.items() for match in pattern.findall(text)]
    in_ids = [_in_ids(tokenizer, word) for word in words]
    stem = _in_ids(tokenizer, CANARY_STEM)  # of all words: few keys have to be compared with each of them
    held: Counter[str] = Counter()
    num_bytes = 0
    for key in client.scan_iter(match=f"{KEYS.prefix}*", count=1000):
        kind = key.decode().removeprefix(KEYS.prefix).partition(":")[0]
        value = values_of(client, key)
        num_bytes += len(value)
        if pattern.search(value) is None and not (stem in value and any(word in value for word in in_ids)):
            continue
        held[kind] += 1
        if kind not in HOLDERS:
            hits.append(f"key {key.decode()} holds a client's words")
        elif not (0 < (left_ms := client.pttl(key)) <= RETAIN_MS or left_ms == GONE):
            hits.append(f"key {key.decode()} does not expire")
    searched = {place: len(text) for place, text in places.items()} | {"Redis": num_bytes}
    return Found(hits, held, client.xlen(KEYS.dead), searched)


def _in_ids(tokenizer: Tokenizer, word: str) -> bytes:
    """As records pack token ids; without the ends of a word, which a tokenizer may join to what is beside it."""
    return np.array(tokenizer.encode(word, special=False)[2:-2], "<i4").tobytes()


@contextmanager
def standing() -> Iterator[tuple[Cell, Redis, Collector]]:
    """A cell that logs and exports all it can."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis() as redis, collector() as received:
        policy = Path(folder) / "policy.yaml"
        policy.write_text(POLICY)
        options = {kind: {"LOG_LEVEL": "DEBUG"} for kind in ("verifier", "drafter", "selector", "gateway")}
        options["gateway"] |= {"POLICY_FILE": str(policy), "MAX_INSPECTED": str(2 * AT_ONCE)}
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint,
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }
        with cell(redis.url, num_verifiers=2, options=options, environment=environment) as target:
            client = connect(redis.url)
            try:
                yield target, client, received
            finally:
                client.close()


def run(num_clients: int) -> tuple[Campaign, Found]:
    """The crowd, the poison, the search."""
    with standing() as (target, client, received):
        tokenizer = load_tokenizer(target.stack.settings["gateway"]["TARGET"])
        campaign = Campaign(target.stack.ports["gateway"], tokenizer, PlainDecoding())
        asyncio.run(crowd(campaign, num_clients))
        words = [*(canary(number) for number in range(1, num_clients + 1)), *poison(client, NUM_POISONOUS)]
        received.wait_for(lambda spans: any(span.name == "gateway.request" for span in spans))
        settled(target, client)
        return campaign, search(target, client, received, tokenizer, words)


def problems(campaign: Campaign, found: Found) -> list[str]:
    """All that should not be, and what would make a clean result worth nothing."""
    failed = [f"{name} ({count})" for name, count in campaign.outcomes.items() if name.startswith("failed")]
    empty = [f"{place} is empty" for place, size in found.searched.items() if not size]
    missing = [] if found.num_dead >= NUM_POISONOUS else [f"only {found.num_dead} dead letters"]
    missing += [] if found.held["request"] else ["no request holds its own word: the search finds nothing"]
    return [*campaign.damage, *found.hits, *failed, *empty, *missing]


def main() -> None:
    """Exit code 1 for any word in a wrong place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500)
    options = parser.parse_args()
    campaign, found = run(options.clients)
    for name, count in sorted(campaign.outcomes.items()):
        print(f"    {count:6} {name}")
    for place, size in found.searched.items():
        print(f"    {size / 1024:8.0f} KB searched: {place}")
    for kind, count in found.held.items():
        print(f"    {count:6} keys {kind}:… hold words: {HOLDERS.get(kind, 'they may not')}")
    wrong = problems(campaign, found)
    print(f"{found.num_dead} dead letters; {len(wrong)} problems")
    for line in wrong[:20]:
        print(f"    {line}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
