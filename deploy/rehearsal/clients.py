"""Ordinary streaming clients: they know what they must get, keep their connections and never resume a stream."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.rehearsal.http_client import Connection

AGAIN_S = 0.2
PATH = "/v1/completions"
BUSY = (429, 503)  # ordinary clients ask again
NO_ANSWER = "no answer"


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and the answer to it, token ids."""

    prompt: list[int]
    answer: list[int]


@dataclass
class Seen:
    """What all clients saw during one step. ``stalls``: each stream's longest silence after its first token, s."""

    outcomes: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    num_tokens: int = 0
    num_moved: int = 0  # streams that more than one verifier has served
    num_alive: int = 0  # streams that were open when the step began

    @property
    def num_refused(self) -> int:
        """Requests that were asked again after a 429 or 503."""
        return sum(count for name, count in self.outcomes.items() if name.startswith(tuple(map(str, BUSY))))

    @property
    def num_unanswered(self) -> int:
        """Requests whose connection was refused or ended before a status line."""
        return sum(count for name, count in self.outcomes.items() if name.startswith(NO_ANSWER))

    @staticmethod
    def quantile(figures: Sequence[float], part: float) -> float:
        """0 without any."""
        ordered = sorted(figures)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


class Clients:
    """``count`` of them, each with one stream at a time, until told to stop. ``seen`` is the step's of now."""

    def __init__(
        self, address: tuple[str, int], headers: Mapping[str, str], operator: Mapping[str, str], count: int
    ) -> None:
        self.seen = Seen()
        self.num_open = 0
        self._address, self._headers, self._operator, self._count = address, headers, operator, count
        self._is_over = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, asked: Iterator[Question]) -> None:
        """In the background."""
        self._tasks = [asyncio.create_task(self._run(asked)) for _ in range(self._count)]

    async def stop(self) -> None:
        """When every open stream has come to its end. Raises what a client died of."""
        self._is_over = True
        await asyncio.gather(*self._tasks)

    def begin_step(self) -> Seen:
        """Streams that end from now on belong to it."""
        self.seen = Seen(num_alive=self.num_open)
        return self.seen

    async def _run(self, asked: Iterator[Question]) -> None:
        connection = Connection(*self._address, self._headers)
        while not self._is_over:
            question = next(asked)
            while not await self._try(connection, question):  # noqa: ASYNC110 - nobody tells when to ask again
                await asyncio.sleep(AGAIN_S)
        connection.close()

    async def _try(self, connection: Connection, question: Question) -> bool:
        """One request; False where it was refused before it had begun, or nobody answered.

        Ordinary clients repeat the former. The latter is a fault, and repeated to see how long it lasts.
        """
        stream = Stream(question)
        try:
            await connection.ask("POST", PATH, stream.body)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.seen.outcomes[f"{NO_ANSWER}: {type(error).__name__}"] += 1
            connection.close()
            return False
        if connection.status != 200:
            return await self._refused(connection)
        self.num_open += 1
        try:
            outcome = await stream.read(connection)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            outcome = f"truncated by {type(error).__name__}"
        self.num_open -= 1
        if outcome != "whole" or not connection.is_kept:
            connection.close()
        await self._ended(stream, outcome, connection.answer_headers.get("x-adaserve-stream", ""))
        return True

    async def _refused(self, connection: Connection) -> bool:
        body = await connection.json()
        code = body.get("error", {}).get("code", "?")
        if not connection.is_kept:
            connection.close()
        self.seen.outcomes[f"{connection.status} {code}"] += 1
        if connection.status in BUSY:
            return False
        self.seen.damage.append(f"refused with {connection.status} {code}: {body}")
        return True

    async def _ended(self, stream: Stream, outcome: str, name: str) -> None:
        seen = self.seen
        seen.outcomes[outcome] += 1
        if outcome != "whole":
            seen.damage.append(f"{name}: {outcome} after {len(stream.tokens)} tokens")
            return
        seen.num_tokens += len(stream.tokens)
        seen.stalls.append(stream.longest_s)
        seen.first_tokens.append(stream.first_s)
        if await self._has_moved(name):
            seen.num_moved += 1

    async def _has_moved(self, name: str) -> bool:
        """Whether the account of the request tells of more than one verifier."""
        operator = Connection(*self._address, self._operator)
        try:
            await operator.ask("GET", f"/admin/requests/{name}")
            return operator.status == 200 and bool((await operator.json())["takeovers"])
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        finally:
            operator.close()


class Stream:
    """One answer, checked token by token as it comes."""

    def __init__(self, question: Question) -> None:
        self.body: dict[str, Any] = {
            "model": "default",
            "prompt": question.prompt,
            "max_tokens": len(question.answer),
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,
        }
        self.tokens: list[int] = []
        self.longest_s = 0.0
        self.first_s = 0.0
        self._answer = question.answer
        self._heard: float | None = None
        self._asked = time.monotonic()

    async def read(self, connection: Connection) -> str:
        """How it ended: "whole", or what was wrong."""
        rest, is_done = b"", False
        async for chunk in connection.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line == b"data: [DONE]":
                    is_done = True
                elif line.startswith(b"data: ") and (fault := self._take(json.loads(line[6:]))):
                    return fault
        if not is_done:
            return "truncated"
        return "whole" if self.tokens == self._answer else "truncated, and said to be whole"

    def _take(self, told: Mapping[str, Any]) -> str:
        """What is wrong with an event; empty where nothing is."""
        if "error" in told:
            return f"error {told['error'].get('code')}"
        for choice in told.get("choices", ()):
            if tokens := choice.get("token_ids"):
                self._note(tokens)
        if self.tokens != self._answer[: len(self.tokens)]:
            return "wrong token"
        return ""

    def _note(self, tokens: Sequence[int]) -> None:
        now = time.monotonic()
        if self._heard is None:
            self.first_s = now - self._asked
        else:
            self.longest_s = max(self.longest_s, now - self._heard)
        self._heard = now
        self.tokens += tokens
