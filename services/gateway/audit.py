"""Who changed what: a line in the log `adaserve.audit` and an entry of a stream that all gateways read."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from services.gateway.admission import unavailable
from services.gateway.bus import Bus
from shared.audit import AuditEvent, read_line
from shared.errors import BusUnavailable, UnreadableMessage

logger = logging.getLogger(__name__)
lines = logging.getLogger("adaserve.audit")  # nothing but events, so that it can be sent elsewhere

SYSTEM = "system"
"""Who it was when nobody asked over HTTP, such as a policy file that changed."""


class Record(Protocol):
    """Tells one change: `Audit.record`, as those see it who do not know more of it."""

    async def __call__(self, what: str, *, who: str, before: Any, after: Any) -> None: ...


class Audit:
    """Events of this cell. What Redis does not take is in this gateway's log all the same."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.time) -> None:
        self._bus = bus
        self._clock = clock

    async def record(
        self, what: str, *, who: str = SYSTEM, before: Any = None, after: Any = None, request_id: str = ""
    ) -> None:
        """Tell one change, ``what`` such as `policy.reload`; values as JSON holds them. Redis away is no error."""
        at_ms = round(self._clock() * 1_000)
        event = AuditEvent(what=what, who=who, at_ms=at_ms, request_id=request_id, before=before, after=after)
        line = event.line()
        lines.info("%s", line)
        try:
            await self._bus.append_audit(line.encode())
        except BusUnavailable as error:
            logger.warning("%s by %s is in this log only, not in the audit stream: %s", what, who, error)

    async def latest(self, limit: int) -> list[dict[str, Any]]:
        """The last events of all gateways, oldest first. Raises ApiError 503."""
        try:
            found = await self._bus.audit(limit)
        except BusUnavailable:
            raise unavailable("the message bus does not answer") from None
        return [event for line in found if (event := _readable(line)) is not None]


def _readable(line: bytes) -> dict[str, Any] | None:
    try:
        return read_line(line)
    except UnreadableMessage as error:
        logger.error("an entry of the audit stream cannot be read: %s", error)
        return None
