"""Background tasks: watched while they run, ended for certain."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine, Iterable
from typing import Any

logger = logging.getLogger(__name__)

_AGAIN_S = 0.1


def vital(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task the process cannot do without: should it fail, the process drains and ends, to be started again."""
    task = asyncio.create_task(work)
    task.add_done_callback(_end_with)
    return task


def _end_with(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical("a vital task has failed, the gateway ends", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel until all have ended.

    Once is not enough: `wait_for` of Python 3.11, under redis-py's connect, swallows a cancellation that meets its
    result.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)
