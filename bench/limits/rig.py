"""A real engine over a real Redis whose target model costs nothing: what remains of a turn is host work.

The ring answers as soon as the verifier waits for it. On the rig's clock that has taken RING_MS; what the verifier
does in that time is a part of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch

from bench.made_requests import made_request
from services.verifier import engine as engine_module
from services.verifier.ask import Control
from services.verifier.batch import build_batch, settle_batch
from services.verifier.bus import VerifierBus
from services.verifier.engine import Engine, Senses
from services.verifier.generation import Generation
from services.verifier.governor import Governor
from services.verifier.intake import Intake
from services.verifier.ring import Ring
from services.verifier.scheduler import Scheduler
from services.verifier.speculator import Speculator
from shared import codec, digest
from shared.functions import load_library
from shared.grammar import no_grammars
from shared.heartbeat import Heartbeat, Pulse
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.inference.plan import ForwardPlan
from shared.inference.prefixes import PrefixCache
from shared.inference.rows import PackedRows
from shared.latency import LatencyModel
from shared.messages import TRACEPARENT, DraftRequest, Request, SelectedTrees
from shared.records import Origin
from shared.scripts import call, enqueue
from shared.streams import OwnedStream, connect, keep_alive
from shared.telemetry import Telemetry
from shared.tokenizer import Tokenizer
from shared.topics import DRAFT, Keys

DRAFTER, GATEWAY, VERIFIER = "drafter.1", "gateway.1", "verifier.1"
MAP = "map"  # of token ids, the same on both sides
BRANCHES = 3  # of every level of a tree
ACCEPTED = 2  # nodes of a tree
FIRST_ID, OWN_ID = 100, 50  # tokens of a tree's nodes count from the first; the own one is in no tree
RING_MS = 10.0  # on the rig's clock, from the wait on
FLAT, PEAK = 3.0, 30.0  # spread of the logits, and the one that is to be drawn


@dataclass(slots=True)
class Parts:
    """Milliseconds of a turn by part, summed over its calls."""

    spent: dict[str, float] = field(default_factory=dict)

    ended: dict[str, float] = field(default_factory=dict)  # when each part ended last, by perf_counter

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, its time added to that of ``name``."""

        def measured(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self.ended[name] = end = time.perf_counter()
                self.spent[name] = self.spent.get(name, 0.0) + (end - start) * 1e3

        return measured

    def take(self) -> dict[str, float]:
        """What was spent since the last call."""
        spent, self.spent = self.spent, {}
        return spent


class Turn(NamedTuple):
    """Milliseconds of one turn, without forward pass, wait for trees and what was looked at ahead in that wait.

    ``path_ms`` of them lie between the trees' arrival and the commit's answer: what the iteration waits for. The
    others are spent while the next trees are made.
    """

    whole_ms: float
    path_ms: float
    parts: dict[str, float]


class FreeCache:
    """KV that is nowhere: the compaction section measures moves."""

    def move(self, source: Any, destination: Any) -> None:
        """Nothing."""


class FreeRunner:
    """Prepares the rows as a forward pass does, and has the logits ready: [num_logits, vocab].

    On the rig's clock it takes as long as the latency model says, or the verifier would doubt the model.
    ``elsewhere_ms`` are those of forward passes and rings, in all.
    """

    def __init__(self, table: LatencyModel, vocab_size: int, num_nodes: int, parts: Parts) -> None:
        self.cache = FreeCache()
        self.elsewhere_ms = 0.0
        self._table = table
        self._rows = parts.timed("rows", PackedRows)
        self._logits = _logits(vocab_size, num_nodes)

    def logits(self, plan: ForwardPlan) -> npt.NDArray[np.floating[Any]]:
        """Those of as many requests as the plan has; whatever it feeds."""
        self._rows(plan, torch.float32, torch.device("cpu"))
        self.elsewhere_ms += self._table.predict_ms(
            plan.num_tokens, context_tokens=len(plan.context_slots), rows=plan.num_rows
        )
        rows = np.arange(len(plan.logit_rows)) % len(self._logits)
        return self._logits[rows]


def _logits(vocab_size: int, num_nodes: int) -> npt.NDArray[np.float32]:
    """Of a root and its tree: ACCEPTED nodes down the first branch, then the own token."""
    rng = np.random.default_rng(11)
    logits = rng.normal(0.0, FLAT, (1 + num_nodes, vocab_size)).astype(np.float32)
    for depth in range(ACCEPTED):
        logits[0 if depth == 0 else 1 + BRANCHES * (depth - 1), FIRST_ID + BRANCHES * depth] = PEAK
    logits[1 + BRANCHES * (ACCEPTED - 1), OWN_ID] = PEAK
    return logits


class Rig:
    """``num_requests`` requests that decode for ever, with trees of ``num_nodes`` nodes for each."""

    def __init__(
        self,
        url: str,
        telemetry: Telemetry,
        tokenizer: Tokenizer,
        table: LatencyModel,
        *,
        num_requests: int,
        num_nodes: int,
        vocab_size: int,
        context: int,
        max_tokens: int,
        temperature: float,
    ) -> None:
        self._client, self._keys = connect(url), Keys(f"rig{vocab_size}-{round(100 * temperature)}")
        load_library(self._client)
        self._bus = VerifierBus(self._client, connect(url, blocking=True), self._keys, VERIFIER)
        self._bus.start()
        self._parts = Parts()
        self._num_nodes = num_nodes
        pool = BlockPool(num_requests * (context + max_tokens + 128) // 16)
        self.scheduler = Scheduler[Generation](pool, max_running=num_requests, prefill_chunk=4096)
        speculator = Speculator(
            Ring(0, 250.0),
            Governor(),
            telemetry,
            verifier=VERIFIER,
            token_map=MAP,
            model="rig",
            profile=table.version,
            control=Control(depth=num_nodes // BRANCHES, width=BRANCHES),
            vocab_size=vocab_size,
            max_nodes=2048,
        )
        prefixes = PrefixCache(pool)
        intake = Intake(
            tokenizer,
            lambda: SequenceSlots(pool),
            no_grammars,
            prefixes,
            vocab_size=vocab_size,
            context_limit=context + max_tokens,
            eos_token_ids=frozenset({0}),
        )
        self._runner = runner = FreeRunner(table, vocab_size, num_nodes, self._parts)
        senses = Senses(
            clock_ms=lambda: time.monotonic() * 1e3 + runner.elsewhere_ms,
            redis_ms=self._bus.redis_ms,
            on_time_for=lambda _: True,
            pause=lambda _: False,
            pulse=Pulse(),
        )
        self.engine = Engine(
            self._bus, runner, self.scheduler, speculator, intake, table, telemetry, senses, prefixes
        )
        self._beat(url)
        for number in range(num_requests):
            self._submit(_request(number + 1, context, max_tokens, temperature))

    def settle(self) -> None:
        """Turns until every request decodes with trees."""
        for _ in range(50):
            self.engine.turn()
            self.answer()
            decoding = self.scheduler.decoding
            if len(decoding) == len(self.scheduler.generations) > 0:
                return
        raise SystemExit("the rig's requests do not get to decode")

    def turn(self) -> Turn:
        """The next turn that verifies trees, while `measured`: on a busy machine a late ring is not waited for."""
        for _ in range(100):
            num_steps, _ = self.engine.num_steps, self._parts.take()
            start = time.perf_counter()
            self.engine.turn()
            spent_ms = (time.perf_counter() - start) * 1e3
            parts = self._parts.take()
            if "answer" in parts and self.engine.num_steps == num_steps + 1:
                break
        else:
            raise SystemExit("the rig does not verify trees")
        forward_ms, answer_ms = parts.pop("logits") - parts["rows"], parts.pop("answer")
        path_ms = (self._parts.ended["commit"] - self._parts.ended["answer"]) * 1e3 - forward_ms
        return Turn(spent_ms - forward_ms - answer_ms - parts.get("ahead", 0.0), path_ms, parts)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """The engine's calls are timed, and its waits answered, meanwhile."""
        timed = self._parts.timed
        runner, bus, engine = self._runner, self._bus, self.engine
        answer, hear = timed("answer", self.answer), timed("hear", bus.hear)

        def answered(block_ms: float | None) -> Any:
            if block_ms is not None:
                answer()
            return hear(block_ms)

        with (
            patch.object(engine_module, "build_batch", timed("plan", build_batch)),
            patch.object(engine_module, "settle_batch", timed("accept", settle_batch)),
            patch.object(runner, "logits", timed("logits", runner.logits)),
            patch.object(bus, "hear", answered),
            patch.object(engine, "_look_ahead", timed("ahead", engine._look_ahead)),
            patch.object(bus, "commit", timed("commit", bus.commit)),
            patch.object(engine, "_ask", timed("ask", engine._ask)),
            patch.object(engine, "_keep_house", timed("housekeeping", engine._keep_house)),
        ):
            yield

    def answer(self) -> None:
        """Trees for the newest DraftRequest, as if drafter and selector had worked."""
        stream = self._keys.draft(DRAFTER)
        asked: Any = self._client.xrevrange(stream, count=1)
        if not asked:
            return
        self._client.xtrim(stream, maxlen=0)
        reply = _trees(DRAFT.decode(asked[0][1][b"body"]), self._num_nodes)
        self._runner.elsewhere_ms += RING_MS
        self._client.xadd(
            self._bus.verify_stream, {"body": codec.encode(reply)}, maxlen=256, approximate=True, nomkstream=True
        )

    def _beat(self, url: str) -> None:
        """A drafter that is there for good, and the streams that others own."""
        beat = Heartbeat(url, self._keys, "drafter", DRAFTER, lambda: {"token_map": MAP, "model": "d", "load": 0})
        beat.beat()
        beat._client.close()
        self._client.persist(self._keys.heartbeat("drafter", DRAFTER))
        names = [self._keys.draft(DRAFTER), self._bus.verify_stream, self._keys.tokens(GATEWAY)]
        keep_alive(self._client, [OwnedStream(name) for name in names])
        for name in names:
            self._client.persist(name)

    def _submit(self, request: Request) -> None:
        prompt = request.prompt.tolist()
        origin = Origin(
            body=codec.encode(request),
            tenant=request.tenant,
            tier=request.tier,
            seed=request.seed,
            gateway=GATEWAY,
            traceparent=None,
        )
        told = digest.extend(digest.EMPTY, prompt).hex()
        queued = enqueue(
            self._keys, request=request.request, origin=origin, position=len(prompt), digest=told, limit=1000
        )
        call(self._client, queued)


def _request(number: int, context: int, max_tokens: int, temperature: float) -> Request:
    prompt = np.random.default_rng(number).integers(0, 4096, context, np.int32)
    return made_request(
        number,
        prompt.tolist(),
        max_tokens=max_tokens,
        temperature=temperature,
        seed=number,
        max_depth=8,
        tpot_ms=50.0 if number % 2 else math.inf,
    )


def _trees(asked: DraftRequest, num_nodes: int) -> SelectedTrees:
    """Every level BRANCHES nodes below the first of the level above."""
    rows = len(asked.request)
    level = np.arange(num_nodes) // BRANCHES
    parents = np.where(level == 0, -1, BRANCHES * (level - 1)).astype(np.int16)
    tokens = FIRST_ID + np.arange(num_nodes, dtype=np.int32)
    return SelectedTrees(
        verifier=asked.verifier,
        drafter=asked.drafter,
        ring=asked.ring,
        step=asked.step,
        budget_used=rows * num_nodes,
        predicted_ms=20.0,
        draft_ms=5.0,
        prefill_tokens=4096,
        depth=num_nodes // BRANCHES,
        width=BRANCHES,
        stop_value=0.0,
        request=asked.request,
        epoch=asked.epoch,
        position=asked.position,
        acknowledged=asked.position,
        weight=np.ones(rows, np.float32),
        late=np.zeros(rows, np.bool_),
        tree_offsets=np.arange(rows + 1, dtype=np.int32) * num_nodes,
        tokens=np.tile(tokens, rows),
        parents=np.tile(parents, rows),
        logprobs=np.tile(np.float32(-0.3) * (1 + level).astype(np.float32), rows),
        phase=np.zeros(rows * num_nodes, np.uint8),
        trace_row=np.empty(0, np.int32),
        traceparent=np.empty(0, TRACEPARENT),
    )
