"""Clients that take their stream up again on another gateway, and know every token they must get."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.sse import Answer, ask

AGAIN_S = 0.05
STALL_S = 0.25
PATH = "/v1/completions"


@dataclass
class Journal:
    """What all travellers saw. ``gaps``: each whole stream's longest silence after its first token, in seconds."""

    outcomes: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    stalls: dict[str, list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )  # those above STALL_S, by phase
    num_tokens: int = 0

    def gap(self, quantile: float) -> float:
        """Quantile of the gaps in seconds, 0 without any."""
        ordered = sorted(self.gaps)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else 0.0


class Trip:
    """One stream over as many connections as it takes."""

    def __init__(self, body: Mapping[str, Any], expected: Sequence[int]) -> None:
        self.body = {"model": "default", "stream": True, "return_token_ids": True, **body}
        self._expected = list(expected)
        self.tokens: list[int] = []
        self.stream = ""
        self.last_event = ""
        self.longest_gap = 0.0
        self._heard: float | None = None

    def got(self, tokens: Sequence[int]) -> float:
        """Takes tokens in; the silence before them, 0 before the first ones."""
        now = time.monotonic()
        gap = 0.0 if self._heard is None else now - self._heard
        self.longest_gap = max(self.longest_gap, gap)
        self._heard = now
        self.tokens += tokens
        return gap

    @property
    def is_right(self) -> bool:
        """So far."""
        return self.tokens == self._expected[: len(self.tokens)]

    @property
    def is_whole(self) -> bool:
        return self.tokens == self._expected


class Travellers:
    """``ports`` are the gateways of now; whoever replaces one changes the list."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.journal = Journal()
        self.phase = "nothing"  # is done to the cell now
        self._trips: set[asyncio.Task[None]] = set()

    def start(self, body: Mapping[str, Any], expected: Sequence[int]) -> None:
        """One stream, in the background."""
        task = asyncio.create_task(self.travel(body, expected))
        self._trips.add(task)
        task.add_done_callback(self._trips.discard)

    async def all_home(self) -> None:
        """Until every stream that was started has ended."""
        await asyncio.gather(*self._trips)

    async def travel(self, body: Mapping[str, Any], expected: Sequence[int]) -> None:
        """One stream, to its end."""
        trip = Trip(body, expected)
        outcome = "moved"
        while outcome in ("moved", "refused"):
            outcome = await self._ride(trip, random.choice(self.ports))
            self.journal.outcomes[outcome] += 1
            if outcome == "refused":
                await asyncio.sleep(AGAIN_S)
        if outcome == "whole" and trip.is_whole:
            self.journal.gaps.append(trip.longest_gap)
            self.journal.num_tokens += len(trip.tokens)
        else:
            self.journal.damage.append(f"{outcome} after {len(trip.tokens)} of {len(expected)} tokens")

    async def _ride(self, trip: Trip, port: int) -> str:
        try:
            answer = await self._board(trip, port)
        except OSError:
            return "refused"
        try:
            if answer.status != 200:
                return "refused" if answer.status == 503 else f"status {answer.status}"
            trip.stream = answer.headers["x-adaserve-stream"]
            return await self._read(trip, answer)
        except (OSError, TimeoutError) as error:
            return f"truncated by {type(error).__name__}"
        finally:
            answer.leave()

    async def _board(self, trip: Trip, port: int) -> Answer:
        """The head of an answer. Raises OSError where there is none: then nothing is lost, and it asks again."""
        if trip.stream:
            headers = {"last-event-id": trip.last_event} if trip.last_event else {}
            answer = await ask(port, "GET", f"/v1/streams/{trip.stream}", headers=headers)
        else:
            answer = await ask(port, "POST", PATH, trip.body)
        await answer.head()
        return answer

    async def _read(self, trip: Trip, answer: Answer) -> str:
        retry_s: float | None = None
        async for name, value in answer.fields():
            if name == "retry":
                retry_s = int(value) / 1000
            elif name == "id":
                trip.last_event = value
            elif name == "data" and value == "[DONE]":
                return "whole"
            elif name == "data":
                told = json.loads(value)
                if "error" in told and retry_s is None:
                    return f"error {told['error']['code']}"
                self._note(
                    trip, [token for choice in told.get("choices", ()) for token in choice.get("token_ids") or ()]
                )
                if not trip.is_right:
                    return "wrong token"
        if retry_s is None:
            return "truncated"
        await asyncio.sleep(retry_s)
        return "moved"

    def _note(self, trip: Trip, tokens: Sequence[int]) -> None:
        if tokens and (gap := trip.got(tokens)) > STALL_S:
            self.journal.stalls[self.phase].append(gap)
