"""A cell whose members are of two releases, rolled from one to the other under load."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.local import LocalStack
from shared.embedded_redis import EmbeddedRedis
from shared.functions import execute
from shared.streams import connect
from tests.faults.cell import Cell, cell, kind_of
from tests.faults.travellers import Travellers

CLIENTS = 6
THINK_S = 0.05
SETTLE_S = 1.0

UP = ("drafter", "selector", "verifier", "gateway")  # as docs/releasing.md has it
DOWN = tuple(reversed(UP))


@dataclass(frozen=True, slots=True)
class Release:
    """A source tree, and its function library."""

    name: str
    tree: Path

    @property
    def library(self) -> str:
        """The text that its processes load."""
        return library_of(self.tree)


def library_of(tree: Path) -> str:
    """What its `shared.functions.LIBRARY` is: files in the places of lines that name them."""

    def source(name: str) -> str:
        whole = (tree / "shared" / name).read_text(encoding="utf-8")
        return re.sub(r"^--@ (\S+)\n", lambda found: source(found[1]), whole, flags=re.MULTILINE)

    return source("scripts.lua")


@dataclass
class Mixed:
    """``releases`` by member. Names of members tell kind, number and release."""

    cell: Cell
    redis_url: str
    travellers: Travellers
    releases: dict[str, Release] = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def stack(self) -> LocalStack:
        return self.cell.stack

    def of(self, kind: str) -> list[str]:
        """Members that run."""
        return [name for name in self.releases if kind_of(name) == kind]

    def start(self, kind: str, release: Release) -> str:
        """Raises RuntimeError where it does not become ready."""
        name = f"{kind}-{next(self.numbers)}-{release.name}"
        self.stack.trees[name] = release.tree
        self.cell.start_all([name])
        self.releases[name] = release
        return name

    async def replace(self, old: str, release: Release) -> None:
        """Start one of that release, then end the old one, as a Deployment does."""
        kind = kind_of(old)
        self.travellers.phase = f"{kind} becomes {release.name}"
        new = await asyncio.to_thread(self.start, kind, release)
        if kind == "gateway":
            self.travellers.ports.append(self.stack.ports[new])
        self.cell.signal(old, signal.SIGTERM)
        self.exits[old] = await asyncio.to_thread(self.cell.end_of, old)
        del self.releases[old]
        if kind == "gateway":
            self.travellers.ports.remove(self.stack.ports[old])
        self.travellers.phase = "nothing"

    async def roll(self, release: Release, order: Sequence[str], half_way: Callable[[], None]) -> None:
        """One of each kind, then ``half_way``, then the others: between them every kind is there in both."""
        for number, kinds in enumerate((order, order)):
            for kind in kinds:
                (*_, old) = sorted(name for name in self.of(kind) if self.releases[name] is not release)
                await self.replace(old, release)
            if number == 0:
                await asyncio.sleep(SETTLE_S)
                await asyncio.to_thread(half_way)
                await asyncio.sleep(SETTLE_S)

    def load_library(self, release: Release) -> None:
        """Puts that release's functions in the place of whatever there is."""
        with connect(self.redis_url) as client:
            execute(client, ("FUNCTION", "LOAD", "REPLACE", release.library))

    def forget_library(self) -> None:
        """Whoever misses it first loads its own."""
        with connect(self.redis_url) as client:
            client.function_flush()

    def library_version(self) -> int:
        with connect(self.redis_url) as client:
            return int(execute(client, ("FCALL", "adaserve_version", 0)))


@contextmanager
def mixed(first: Release, *, is_table: bool = True) -> Iterator[Mixed]:
    """Two members of each kind, of the first release. Where it cannot start: RuntimeError with its log."""
    options = {"gateway": {"DRAIN_S": "1"}, "verifier": {"DRAIN_S": "10"}}
    with (
        EmbeddedRedis() as redis,
        cell(redis.url, num_verifiers=0, num_others=0, is_table=is_table, options=options) as opened,
    ):
        made = Mixed(opened, redis.url, Travellers([]))
        for kind in UP:
            for _ in range(2):
                made.start(kind, first)
        made.travellers.ports += [made.stack.ports[name] for name in made.of("gateway")]
        yield made


class Load:
    """A closed loop of clients that pause a little between their streams, until told to stop."""

    def __init__(self, travellers: Travellers, asked: Iterator[tuple[dict[str, Any], Sequence[int]]]) -> None:
        self._travellers, self._asked = travellers, asked
        self._is_over = False
        self._clients = [asyncio.create_task(self._client(seed)) for seed in range(CLIENTS)]

    async def _client(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._is_over:
            await self._travellers.travel(*next(self._asked))
            await asyncio.sleep(chance.uniform(0, 2 * THINK_S))

    async def stop(self) -> None:
        """Every stream that was begun is read to its end."""
        self._is_over = True
        await asyncio.gather(*self._clients)
