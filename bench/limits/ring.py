"""The ring: DraftRequest sent to SelectedTrees decoded, less what drafter and selector compute.

This process stands for the verifier: its bus, its heartbeat, its streams. Drafter and selector are the real
processes. 16 requests; each round tells three new tokens of each and gets trees back.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.limits.bare_ring import PAUSE_S, bare_ring_us
from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.level import level_request
from bench.limits.placement import described
from bench.limits.run import Run
from bench.limits.timing import median, percentile
from bench.local import CELL, LocalStack
from bench.replay.counters import parse, total
from bench.selection_speed import TABLE
from models.paths import DRAFT
from services.verifier.bus import VerifierBus
from shared import signals
from shared.codec import encode
from shared.functions import load_library
from shared.heartbeat import Heartbeat, live_members, new_member
from shared.messages import DraftRequest, SelectedTrees
from shared.streams import OwnedStream, connect
from shared.topics import Keys

NUM_REQUESTS = 16
CONTEXT = 96
NEW_TOKENS = 3
ROUNDS = 400
RESTART = 16  # rounds until contexts begin anew, so that they stay short
RING = Target(limit=1.5, goal=0.8)
ANSWER_MS = 900.0


def measure(run: Run) -> Section:
    """Milliseconds; the floors are three PINGs, and a ring of bare sockets with as many bytes."""
    with _cell(run) as stack:
        drafter = _drafter(stack)
        verifier = Verifier(run.redis.url, drafter)
        with verifier.heartbeat:
            for number in range(RESTART):
                verifier.turn(number)
            before = _select_s(stack)
            rounds = [verifier.turn(number) for number in range(run.rounds(ROUNDS))]
            after = _select_s(stack)
            select_ms = 1e3 * (after[0] - before[0]) / (after[1] - before[1])
        placement = described(
            {"redis": run.redis.pid, **{name: process.pid for name, process in stack.processes.items()}}
        )
    body = encode(level_request(_contexts(), base=CONTEXT))
    bare = bare_ring_us(run.redis.url, body, run.rounds(ROUNDS))
    pings = 3 * run.typical_ping_us() / 1e3
    whole = [ms for ms, _ in rounds]
    overhead = [ms - draft_ms - select_ms for ms, draft_ms in rounds]
    bare_floor = Floor(name="ring of bare sockets", value=median(bare) / 1e3)
    return Section(
        name="ring",
        placement=placement,
        figures=[
            Figure(
                name="ring overhead",
                unit="ms",
                value=median(overhead),
                p99=percentile(overhead, 99),
                floor=bare_floor,
                target=RING,
            ),
            Figure(name="three PINGs", unit="ms", value=pings),
            Figure(
                name="bare ring",
                unit="ms",
                value=bare_floor.value,
                p99=percentile(bare, 99) / 1e3,
                floor=Floor(name="three PINGs", value=pings),
            ),
            Figure(name="whole ring", unit="ms", value=median(whole), p99=percentile(whole, 99)),
            Figure(name="of it drafting", unit="ms", value=median([draft_ms for _, draft_ms in rounds])),
            Figure(name="of it selection, mean", unit="ms", value=select_ms),
        ],
        notes=[f"{NUM_REQUESTS} requests, {len(body)} bytes asked; between rounds all processes sleep"],
    )


class Verifier:
    """What a verifier does for the ring: asks, waits, keeps what the drafter has acknowledged."""

    def __init__(self, url: str, drafter: str) -> None:
        client, blocking = connect(url), connect(url, blocking=True)
        load_library(client)
        member = new_member("bench")
        keys = Keys(CELL)
        self._drafter = drafter
        self._bus = VerifierBus(client, blocking, keys, member)
        self._bus.start()
        self._bus.publish_profile(TABLE)
        self._step = 0
        self._rng = np.random.default_rng(7)
        self._tokens = _contexts()
        self._base = 0
        self.heartbeat = Heartbeat(
            url,
            keys,
            "verifier",
            member,
            describe=dict,
            owned_streams=[OwnedStream(self._bus.verify_stream)],
            on_recreated=self._bus.reset_hints,
        )

    def turn(self, number: int) -> tuple[float, float]:
        """One round: ms of the whole ring, and of the drafter's own work in it."""
        if number % RESTART == 0:
            self._tokens, self._base = _contexts(), 0
            self._bus.publish_profile(TABLE)
        message = self._message()
        self._bus.hear(None)
        time.sleep(PAUSE_S)
        start = time.perf_counter()
        if not self._bus.ask(message, None, time.time() * 1e3):
            raise SystemExit("the drafter has gone")
        reply = self._hear()
        spent_ms = (time.perf_counter() - start) * 1e3
        self._base = int(reply.acknowledged.min())
        if self._base < 0:
            raise SystemExit("the drafter did not take the contexts")
        new = self._rng.integers(0, 4096, (NUM_REQUESTS, NEW_TOKENS), np.int32)
        self._tokens = np.concatenate([self._tokens, new], axis=1)
        return spent_ms, reply.draft_ms

    def _message(self) -> DraftRequest:
        self._step += 1
        return level_request(
            self._tokens,
            base=self._base,
            verifier=self._bus.verifier,
            drafter=self._drafter,
            step=self._step,
            profile=TABLE.version,
        )

    def _hear(self) -> SelectedTrees:
        for _ in range(10):
            for reply, _ in self._bus.hear(ANSWER_MS).replies:
                if reply.step == self._step:
                    return reply
        raise SystemExit("no answer from the ring")


def _contexts() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 4096, (NUM_REQUESTS, CONTEXT), np.int32)


@contextmanager
def _cell(run: Run) -> Iterator[LocalStack]:
    """Drafter and selector over the run's Redis."""
    settings = {"drafter": {"DRAFT": str(DRAFT), "CATCH_UP": "1024"}, "selector": {}}
    with tempfile.TemporaryDirectory(prefix="ada-logs-") as folder:
        stack = LocalStack(run.redis.url, Path(folder), settings, {})
        try:
            for name in settings:
                stack.start(name)
            stack.wait_ready(*settings)
            yield stack
        finally:
            stack.stop()


def _drafter(stack: LocalStack) -> str:
    client = connect(stack.redis_url)
    (name,) = live_members(client, Keys(CELL), "drafter")
    client.close()
    return name


def _select_s(stack: LocalStack) -> tuple[float, float]:
    """Seconds the selector has spent deciding, and how often."""
    samples = parse(stack.metrics("selector"))
    name = f"{signals.STEP_TIME.name}_seconds"
    return total(samples, f"{name}_sum", part="select"), total(samples, f"{name}_count", part="select")
