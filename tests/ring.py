"""The whole ring in one thread: real handlers, real scripts and streams, table models, a clock the test moves.

The drafter's and the selector's workers run in burst mode whenever the verifier listens, unless the test has
switched them off or tampers with their messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from redis import Redis

from services.drafter.drafter import Drafter
from services.drafter.handler import DraftHandler
from services.drafter.worth import Mode as AheadMode
from services.selector.calibrations import redis_labels
from services.selector.control import PolicySettings
from services.selector.handler import Selector
from services.selector.profiles import redis_loader
from services.verifier.ask import Control
from services.verifier.bus import Heard, VerifierBus
from services.verifier.engine import Engine, Senses
from services.verifier.governor import Governor
from services.verifier.intake import Intake
from services.verifier.ring import LONGEST_PROBE_PERIOD_MS, Ring
from services.verifier.sampling import Draw, SamplingParams, draw_token
from services.verifier.scheduler import Scheduler
from services.verifier.speculator import Speculator
from shared import codec, digest
from shared.errors import GrammarError
from shared.grammar import Compile, Matcher, no_grammars
from shared.heartbeat import Heartbeat, Pulse
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.inference.prefixes import PrefixCache
from shared.latency import LatencyModel
from shared.messages import ControlEvent, Request, SelectedTrees, TokenEvent
from shared.modes import CELL, Mode, Order
from shared.records import Origin
from shared.scripts import Enqueued, call, cancel, enqueue, load_library
from shared.streams import GroupReader, HintReader, OwnedStream, broadcast, connect, keep_alive, parse_streams
from shared.telemetry import Telemetry
from shared.tokenizer import Tokenizer
from shared.topics import CONTROL, CONTROL_MAXLEN, DRAFT, SELECT, SELECTOR_GROUP, Keys
from shared.worker import Worker
from tests.table_model import TableModel, TableRunner

TABLE = LatencyModel(tokens=(1, 32, 64), ms=(1.0, 2.0, 4.0))
GATEWAY = "gateway.1"
DRAFTER = "drafter.1"
VERIFIER = "verifier.1"


def adjusted(logits: npt.NDArray[np.float64], request: Request, output: Sequence[int]) -> npt.NDArray[np.float64]:
    """Logits with bias and penalties after ``output``, id by id."""
    scores = np.array(logits, np.float64)
    for token, bias in zip(request.bias_ids.tolist(), request.bias.tolist(), strict=True):
        scores[token] += bias
    for token in {*request.prompt.tolist(), *output}:
        factor = request.repetition_penalty
        scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
    for token in set(output):
        scores[token] -= request.frequency_penalty * list(output).count(token)
        scores[token] -= request.presence_penalty
    return scores


def plain(
    model: TableModel,
    request: Request,
    eos: frozenset[int] = frozenset(),
    compile_schema: Compile = no_grammars,
) -> list[int]:
    """What decoding one token at a time gives."""
    matcher = compile_schema(request.schema).result() if request.schema else None
    params = SamplingParams.of(request)
    ends = (frozenset() if request.ignore_eos else eos) | frozenset(request.stop_token_ids)
    tokens = request.prompt.tolist()
    while len(tokens) - len(request.prompt) < request.max_tokens:
        banned = ends if len(tokens) - len(request.prompt) < request.min_tokens else frozenset()
        logits = adjusted(model.logits(tokens), request, tokens[len(request.prompt) :])
        allowed = None if matcher is None else matcher.allowed_after([])
        tokens.append(draw_token(logits, Draw(params, len(tokens), banned, allowed=allowed)))
        if matcher is not None:
            matcher.extend(tokens[-1:])
        if tokens[-1] in ends:
            break
    return tokens[len(request.prompt) :]


def at_once(matcher: Callable[[str], Matcher]) -> Compile:
    """Without a thread, so that turns are always the same."""

    def compiled(schema: str) -> Future[Matcher]:
        done: Future[Matcher] = Future()
        try:
            done.set_result(matcher(schema))
        except GrammarError as error:
            done.set_exception(error)
        return done

    return compiled


@dataclass
class Delivery:
    """What a gateway would have delivered of one request."""

    tokens: list[int] = field(default_factory=list)
    finish: str | None = None
    error: str | None = None
    stats: dict[str, float] | None = None
    text_length: int = -1
    logprobs: bytes = b""


class InlineRing(VerifierBus):
    """A verifier's bus on which listening first lets drafter and selector work. ``tamper`` edits each reply."""

    def __init__(self, client: Redis, keys: Keys, workers: Sequence[Worker[Any]]) -> None:
        super().__init__(client, client, keys, VERIFIER)
        self.workers = list(workers)
        self.tamper: Callable[[SelectedTrees], SelectedTrees | None] = lambda reply: reply
        self.is_silent = False
        self.before_hearing: Callable[[], object] = lambda: None
        self.on_block: Callable[[float], object] = lambda _: None

    def hear(self, block_ms: float | None) -> Heard:
        for worker in () if self.is_silent else self.workers:
            worker.run()
        self.before_hearing()
        heard = super().hear(None)
        replies = [(edited, sent) for reply, sent in heard.replies if (edited := self.tamper(reply)) is not None]
        if block_ms is not None and not replies:
            self.on_block(block_ms)
        return Heard(replies, heard.control, heard.num_unreadable)

    def take(self, count: int, block_ms: float | None = None) -> Any:
        return super().take(count)

    def live_verifiers(self) -> list[str]:
        return [VERIFIER]


class TableRing:
    """Everything wired together. ``time_ms`` moves by one per reading and by whole waits."""

    def __init__(
        self,
        url: str,
        client: Redis,
        keys: Keys,
        telemetry: Telemetry,
        tokenizer: Tokenizer,
        *,
        vocab_size: int = 12,
        noise: float = 1.0,
        num_blocks: int = 64,
        draft_blocks: int = 64,
        block_size: int = 4,
        max_running: int = 8,
        prefill_chunk: int = 8,
        eos: frozenset[int] = frozenset(),
        compile_schema: Compile = no_grammars,
        prefix_cache: bool = True,
        draft_ahead: AheadMode = "on",
    ) -> None:
        self.client, self.keys, self.time_ms = client, keys, 0.0
        load_library(client)
        self.model = TableModel(vocab_size)
        self.draft_pool = BlockPool(draft_blocks, block_size)
        draft_runner = TableRunner(TableModel(vocab_size, seed=1, noise=noise), draft_blocks * block_size)
        self.drafter = Drafter(
            draft_runner,
            self.draft_pool,
            max_tokens=64,
            catch_up=6,
            warm_chunk=5,
            compile_schema=compile_schema,
        )
        drafting = Worker(
            HintReader(client, [keys.draft(DRAFTER)]),
            DraftHandler(
                self.drafter, keys, telemetry, lambda: [VERIFIER], clock=lambda: 0.0, draft_ahead=draft_ahead
            ),
            client=client,
            decode=DRAFT.decode,
            key=lambda message: (message.verifier, message.ring),
            hop="draft",
            telemetry=telemetry,
            burst=True,
        )
        selecting = Worker(
            KeepGroup(client, keys.select, SELECTOR_GROUP, "selector.1"),
            # The paper's policy speculates whatever it costs: a table model has no costs to weigh.
            Selector(
                keys,
                PolicySettings(policy="paper"),
                redis_loader(client, keys),
                telemetry,
                redis_labels(client, keys),
            ),
            client=client,
            decode=SELECT.decode,
            key=lambda message: (message.verifier, message.ring),
            hop="select",
            telemetry=telemetry,
            burst=True,
        )
        self.bus = InlineRing(client, keys, [drafting, selecting])
        self.bus.on_block = self.wait
        self.bus.start()
        self.bus.publish_profile(TABLE)
        self.pool = BlockPool(num_blocks, block_size)
        self.scheduler = Scheduler(self.pool, max_running=max_running, prefill_chunk=prefill_chunk)
        self.ring = Ring(0, 250.0)
        speculator = Speculator(
            self.ring,
            Governor(),
            telemetry,
            verifier=VERIFIER,
            token_map="map",
            model="table",
            profile=TABLE.version,
            control=Control(depth=4, width=3),
            vocab_size=vocab_size,
            max_nodes=512,
        )
        intake = Intake(
            tokenizer,
            lambda: SequenceSlots(self.pool),
            compile_schema,
            prefixes := PrefixCache(self.pool) if prefix_cache else None,
            vocab_size=vocab_size,
            context_limit=num_blocks * block_size,
            eos_token_ids=eos,
        )
        self.runner = TableRunner(self.model, num_blocks * block_size)
        senses = Senses(
            clock_ms=self.clock_ms,
            redis_ms=lambda: 0.0,
            on_time_for=lambda _: True,
            pause=self.wait,
            pulse=Pulse(),
        )
        self.engine = Engine(
            self.bus, self.runner, self.scheduler, speculator, intake, TABLE, telemetry, senses, prefixes
        )
        self.beat(url)

    def beat(self, url: str) -> None:
        """One heartbeat of the drafter, lasting for the whole test; the streams others read."""
        client = connect(url)
        described = Heartbeat(
            url, self.keys, "drafter", DRAFTER, lambda: {"token_map": "map", "model": "draft", "load": 0}
        )
        described.beat()
        described._client.close()  # it is not started, so nobody stops it
        client.persist(self.keys.heartbeat("drafter", DRAFTER))
        streams = [self.keys.draft(DRAFTER), self.bus.verify_stream, self.keys.tokens(GATEWAY)]
        keep_alive(client, [OwnedStream(stream) for stream in streams])
        keep_alive(client, [OwnedStream(self.keys.select, SELECTOR_GROUP)])
        client.close()

    def clock_ms(self) -> float:
        self.time_ms += 1.0
        return self.time_ms

    def wait(self, ms: float) -> bool:
        self.time_ms += ms
        return False

    def submit(self, request: Request, traceparent: str | None = None, budget_ms: float | None = None) -> Enqueued:
        prompt = request.prompt.tolist()
        return call(
            self.client,
            enqueue(
                self.keys,
                request=request.request,
                origin=Origin(
                    body=codec.encode(request),
                    tenant=request.tenant,
                    tier=request.tier,
                    seed=request.seed,
                    gateway=GATEWAY,
                    traceparent=traceparent,
                    budget_ms=budget_ms,
                ),
                position=len(prompt),
                digest=digest.extend(digest.EMPTY, prompt).hex(),
                limit=1000,
            ),
        )

    def cancel(self, request: str) -> None:
        """As a gateway whose client has gone."""
        event = TokenEvent(
            request=request,
            start=0,
            tokens=np.empty(0, np.int32),
            digest=digest.EMPTY,
            finish="cancelled",
            text_length=-1,
            stats=None,
            error=None,
        )
        call(self.client, cancel(self.keys, request=request, event=codec.encode(event)))
        self._wake(ControlEvent(kind="cancel", subject=request))

    def order(self, mode: Mode, scope: str = CELL) -> None:
        """As a gateway whose operator sets a mode."""
        self.client.hset(self.keys.modes, scope, Order(mode=mode).pack())
        self._wake(ControlEvent(kind="mode", subject=scope))

    def _wake(self, event: ControlEvent) -> None:
        wake_up = CONTROL.encode(event)
        self.client.execute_command(
            *broadcast(self.keys.control, wake_up, traceparent=None, now_ms=0.0, maxlen=CONTROL_MAXLEN)
        )

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.engine.turn()

    def run(self, limit: int = 2000) -> dict[str, Delivery]:
        """Turns until nothing is left to do, then what was delivered."""
        for _ in range(limit):
            self.engine.turn()
            if not self.scheduler.generations and not any(
                self.client.xlen(self.keys.requests(tier)) for tier in range(4)
            ):
                return self.delivered()
        raise AssertionError(f"requests are still unfinished after {limit} turns")

    def delivered(self) -> dict[str, Delivery]:
        """Folds the gateway's stream, checking that no token is lost, repeated or out of order."""
        found: dict[str, Delivery] = {}
        ends: dict[str, int] = {}
        reply = self.client.xread({self.keys.tokens(GATEWAY): "0-0"})
        for entry in parse_streams(reply).get(self.keys.tokens(GATEWAY), []):
            event = codec.decode(TokenEvent, entry.body)
            delivery = found.setdefault(event.request, Delivery())
            assert delivery.finish is None, "an event after the last one"
            if event.finish not in ("cancelled", "error"):
                assert ends.setdefault(event.request, event.start) == event.start, "gap or repetition"
                ends[event.request] = event.end
            delivery.tokens += event.tokens.tolist()
            delivery.logprobs += event.logprobs
            delivery.finish, delivery.error, delivery.stats = event.finish, event.error, event.stats
            delivery.text_length = event.text_length
        return found


def check(ring: TableRing, requests: list[Request]) -> None:
    """Every request ended, with plain decoding's tokens; nothing is left behind."""
    delivered = ring.run()
    for asked in requests:
        assert delivered[asked.request].tokens == plain(ring.model, asked)
        assert delivered[asked.request].finish in ("stop", "length")
    assert ring.pool.num_free == ring.pool.num_blocks
    ring.bus.is_silent = False
    ring.wait(LONGEST_PROBE_PERIOD_MS)
    ring.turn(2)  # an empty DraftRequest frees the drafter's rows
    assert ring.draft_pool.num_free == ring.draft_pool.num_blocks


class KeepGroup(GroupReader):
    """A burst worker closes its reader after every burst; the consumer must stay for the next one."""

    def close(self) -> None:
        """Stays in the group."""
