"""Time in which the process itself did not run is not held against others."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from services.gateway.patience import within


async def test_what_takes_too_long_ends() -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        async with within(0.1):
            await asyncio.sleep(60)
    assert time.monotonic() - start >= 0.1


async def test_an_answer_that_came_during_a_pause_is_read() -> None:
    here, there = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=here)
    loop = asyncio.get_running_loop()

    def pause() -> None:
        there.send(b"answer\n")
        time.sleep(0.3)

    loop.call_later(0.05, pause)
    async with within(0.2):
        assert await reader.readline() == b"answer\n"
    writer.close()
    there.close()


async def test_the_limit_ends_with_what_it_limits() -> None:
    async with within(0.02):
        pass
    await asyncio.sleep(0.05)


async def test_errors_pass() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with within(1.0):
            raise ValueError("mine")


async def test_a_cancellation_is_one() -> None:
    async def wait() -> None:
        async with within(60.0):
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
