"""Requests that nobody came back to are cancelled by any gateway that lives, not only by the one they left."""

from __future__ import annotations

import asyncio
import logging

from services.gateway.bus import Bus
from shared.errors import BusUnavailable

logger = logging.getLogger(__name__)

PERIOD_S = 1.0


async def reap(bus: Bus) -> None:
    """For ever, once a second."""
    while True:
        await asyncio.sleep(PERIOD_S)
        try:
            await bus.cancel_overdue()
        except BusUnavailable as error:
            logger.warning("cannot look for abandoned requests: %s", error)
