"""A verifier without a model: claims requests and commits scripted tokens through the real functions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as LateReply

from services.gateway.tasks import end
from shared import codec, digest, scripts
from shared.functions import acall, aload_library
from shared.messages import Request, TokenEvent
from shared.streams import connect_async
from shared.topics import NUM_TIERS, VERIFIER_GROUP, Keys

STATS = {
    "queue_ms": 1.5,
    "num_steps": 4.0,
    "num_spec_steps": 2.0,
    "num_draft_tokens": 8.0,
    "num_accepted_draft_tokens": 5.0,
}


@dataclass
class Reply:
    """What to commit for one request: token groups, then how it ends."""

    steps: Sequence[Sequence[int]]
    finish: str = "length"
    text_length: int = -1
    error: str | None = None
    unreadable: frozenset[int] = frozenset()  # steps whose event is garbage; the journal has them all the same
    gate: asyncio.Event | None = None  # waited for before each step but the first
    drafted: Sequence[int] = ()  # of each step's tokens, where the request is inspected


def entries_of(request: Request, start: int, end: int) -> bytes:
    """Log-probabilities that tell the position they belong to; the likeliest ids are 5, 6, 7, ..."""
    count = request.logprobs
    if count is None:
        return b""
    return b"".join(
        np.float32(-position).tobytes()
        + np.arange(5, 5 + count, dtype="<i4").tobytes()
        + (-position - np.arange(count, dtype="<f4") / 4).astype("<f4").tobytes()
        for position in range(start, end)
    )


@dataclass
class FakeVerifier:
    url: str
    keys: Keys
    script: Callable[[Request], Reply]
    name: str = "verifier.test"
    about: dict[str, Any] = field(default_factory=lambda: {"context_limit": 200, "zero_load_ms": 2.0})
    requests: list[Request] = field(default_factory=list)
    traceparents: list[str | None] = field(default_factory=list)
    statuses: list[scripts.CommitStatus] = field(default_factory=list)

    async def start(self) -> None:
        self.client = connect_async(self.url)
        self.reader = connect_async(self.url, blocking=True)
        await aload_library(self.client)
        self.queues = [self.keys.released, *(self.keys.requests(tier) for tier in range(NUM_TIERS))]
        await self._create_groups()
        await self.beat()
        self.tasks = [asyncio.create_task(self._beats()), asyncio.create_task(self._claims())]

    async def _create_groups(self) -> None:
        for queue in self.queues:
            with suppress(ResponseError):  # BUSYGROUP: started before
                await self.client.xgroup_create(queue, VERIFIER_GROUP, id="0", mkstream=True)

    async def pause(self) -> None:
        """Keep the heartbeat, claim nothing more."""
        await end([self.tasks[1]])

    async def stop(self) -> None:
        await end(self.tasks)
        await self.client.delete(self.keys.heartbeat("verifier", self.name))
        await self.client.aclose()
        await self.reader.aclose()

    async def beat(self) -> None:
        await self.client.set(self.keys.heartbeat("verifier", self.name), msgpack.packb(self.about), px=1_000)
        await self.client.sadd(self.keys.members("verifier"), self.name)

    async def _beats(self) -> None:
        while True:
            with suppress(LostConnection, LateReply):
                await self.beat()
            await asyncio.sleep(0.25)

    async def _claims(self) -> None:
        since = ">"
        while True:
            streams: dict[Any, Any] = dict.fromkeys(self.queues, since)
            try:
                reply: Any = await self.reader.xreadgroup(VERIFIER_GROUP, self.name, streams, block=200)
            except ResponseError:  # NOGROUP: Redis has forgotten
                await self._create_groups()
                continue
            except (LostConnection, LateReply):  # a busy machine: what the lost reply held is pending
                since = "0"
                continue
            since = ">"
            for name, entries in reply or ():
                for entry_id, fields in entries:
                    await self._claim(name.decode(), entry_id.decode(), fields[b"body"].decode())

    async def _claim(self, stream: str, entry_id: str, request: str) -> None:
        epoch = scripts.new_epoch()
        call = scripts.claim(
            self.keys, request=request, verifier=self.name, epoch=epoch, entry_id=entry_id, stream=stream
        )
        claim = await acall(self.client, call)
        if claim.status is scripts.ClaimStatus.OK:
            message = codec.decode(Request, claim.body)
            self.requests.append(message)
            self.traceparents.append(claim.traceparent)
            self.tasks.append(asyncio.create_task(self._generate(message, epoch, claim.position)))

    async def _generate(self, request: Request, epoch: str, committed: int) -> None:
        """Commits what the script says, but for what was committed before the claim."""
        reply = self.script(request)
        position, chain = len(request.prompt), digest.extend(digest.EMPTY, request.prompt.tolist())
        for index, tokens in enumerate(reply.steps):
            if index and reply.gate is not None:
                await reply.gate.wait()
            known = min(len(tokens), max(0, committed - position))
            start, before = position + known, digest.extend(chain, tokens[:known])
            position, chain = position + len(tokens), digest.extend(chain, tokens)
            if start == position:
                continue
            tokens = tokens[known:]
            is_last = index == len(reply.steps) - 1
            event = TokenEvent(
                request=request.request,
                start=start,
                tokens=np.array(tokens, np.int32),
                digest=chain,
                finish=reply.finish if is_last else None,
                text_length=reply.text_length if is_last else -1,
                stats=STATS if is_last else None,
                error=reply.error if is_last else None,
                logprobs=entries_of(request, start, position),
                drafted=max(0, reply.drafted[index] - known) if request.inspect and reply.drafted else None,
            )
            row = scripts.CommitRow(
                request=request.request,
                epoch=epoch,
                start=start,
                start_digest=before.hex(),
                end=position,
                end_digest=chain.hex(),
                tokens=np.array(tokens, "<u4").tobytes(),
                event=b"garbage" if index in reply.unreadable else codec.encode(event),
                finish=reply.finish if is_last else "",
                logprobs=entries_of(request, start, position),
            )
            commit = await acall(self.client, scripts.commit(self.keys, verifier=self.name, rows=[row]))
            self.statuses += commit.results
