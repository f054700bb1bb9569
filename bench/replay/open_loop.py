"""Requests leave at the times of their trace, whatever the server does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from bench.replay.client import now_ms
from bench.replay.plan import Planned
from bench.replay.reply import Reply

NOT_SENT = "not sent: too many open"


@dataclass(slots=True)
class Exchange:
    """What came of a plan: replies in its order, when it began (ms), and how late the client was with each."""

    start_ms: float
    replies: list[Reply]
    late_ms: list[float] = field(default_factory=list)


async def send_all(
    planned: Sequence[Planned],
    send: Callable[[Planned], Awaitable[Reply]],
    *,
    max_open: int,
    on_change: Callable[[int, int], None] = lambda _due, _done: None,
) -> Exchange:
    """`planned` must be sorted by time. A request that would be one more than `max_open` at a time is not sent.

    `send` must end by itself; `on_change` is told how many were due and how many of them are no longer open.
    """
    exchange = Exchange(now_ms(), [Reply(failure=NOT_SENT) for _ in planned])
    due = open_now = 0

    async def one(index: int) -> None:
        nonlocal open_now
        exchange.replies[index] = await send(planned[index])
        open_now -= 1
        on_change(due, due - open_now)

    async with asyncio.TaskGroup() as group:
        for index, request in enumerate(planned):
            due_ms = exchange.start_ms + request.at_ms
            await asyncio.sleep(max(0.0, due_ms - now_ms()) / 1_000)
            due += 1
            if open_now < max_open:
                open_now += 1
                exchange.late_ms.append(max(0.0, now_ms() - due_ms))
                group.create_task(one(index))
            on_change(due, due - open_now)
    return exchange
