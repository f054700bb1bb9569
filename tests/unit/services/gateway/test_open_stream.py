"""What one connection waits for."""

from __future__ import annotations

import asyncio

import pytest

from services.gateway.delivery import Delivery, Delta
from services.gateway.errors import ApiError
from services.gateway.open_stream import OpenStream
from shared.records import Origin


@pytest.fixture
def stream() -> OpenStream:
    origin = Origin(body=b"", tenant="a", tier=0, seed=1, gateway="g", traceparent=None)
    return OpenStream(Delivery("r", 0, bytes(8)), origin, lambda: 0.0)


async def test_a_waiting_reader_gets_what_is_handed_over(stream: OpenStream) -> None:
    reading = asyncio.create_task(stream.next(60))
    await asyncio.sleep(0)
    stream.put(Delta([1]))
    stream.put(Delta([2]))
    assert await reading == Delta([1])
    assert stream.has_next
    assert await stream.next(60) == Delta([2])
    assert not stream.has_next


async def test_nothing_in_time_is_none(stream: OpenStream) -> None:
    assert await stream.next(0.01) is None
    assert await stream.next(-1.0) is None


def test_when_it_was_enqueued_is_what_redis_told_or_when_it_was_opened(stream: OpenStream) -> None:
    now_s = 0.0
    origin = stream.origin
    stream = OpenStream(Delivery("r", 0, bytes(8)), origin, lambda: now_s)
    now_s = 2.0
    assert stream.queued_at(10_000.0) == 8_000.0
    stream.enqueued_ms = 5_000.0
    assert stream.queued_at(10_000.0) == 5_000.0


async def test_a_cancelled_reader_loses_nothing(stream: OpenStream) -> None:
    reading = asyncio.create_task(stream.next(float("inf")))
    await asyncio.sleep(0)
    stream.put(Delta([1]))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await stream.next(1) == Delta([1])


async def test_a_farewell_comes_after_what_was_handed_over(stream: OpenStream) -> None:
    stream.put(Delta([1]))
    stream.leave(ApiError(503, "gone", code="draining"))
    assert await stream.next(1) == Delta([1])
    with pytest.raises(ApiError, match="gone"):
        await stream.next(1)
