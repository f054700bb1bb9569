"""`/v1/streams/{id}/inspect`: an inspected request's iterations. Their tokens are the tenant's content.

Looks count in no limit of the tenant's, or a console that follows a request would use it up. What they cost is
bounded instead: a page at a time, one look at a time, tenants in turn, and a pause in proportion after each.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from services.gateway import admission
from services.gateway.bus import Bus
from services.gateway.errors import invalid
from services.gateway.iterations import joined
from services.gateway.responses import encode
from services.gateway.resumption import Resumption
from services.gateway.tenancy import unknown_stream
from services.gateway.turns import Turns
from shared.detokenizer import token_bytes
from shared.errors import BusUnavailable
from shared.inspect_store import PAGE, entries
from shared.tokenizer import Tokenizer

BEGINNING = "0-0"
REST = 3  # times what a page took: so all looks together have a quarter of a processor at most
QUEUE_S = 10.0  # for one's turn
OPERATORS = ":operators"  # in the place of a tenant, none of which has a colon in its name
_CURSOR = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


class Inspection:
    """Reads what selector and verifiers have told of a request."""

    def __init__(self, bus: Bus, resumption: Resumption, tokenizer: Tokenizer) -> None:
        self._bus = bus
        self._resumption = resumption
        self._tokenizer = tokenizer
        self._turns = Turns()

    async def iterations(self, tenant: str | None, stream: str, after: str | None) -> str:
        """JSON of a page of iterations after a cursor; ``tenant`` None reads anybody's. Raises ApiError."""
        if after is not None and not _CURSOR.fullmatch(after):
            raise invalid("after", f"must be the cursor of an earlier answer (got {after[:32]!r})")
        try:
            async with self._turns.turn(OPERATORS if tenant is None else tenant, QUEUE_S):
                return await self._page(tenant, stream, after)
        except TimeoutError:
            raise admission.unavailable("too many look at iterations") from None

    async def _page(self, tenant: str | None, stream: str, after: str | None) -> str:
        stored = await self._resumption.accessible(tenant, stream)
        if not stored.request.inspect:
            raise unknown_stream()
        try:
            found = await self._bus.inspected(stored.request.request, after)
        except BusUnavailable:
            raise admission.unavailable("the message bus does not answer") from None
        if not found:
            return self._told(stored.request.request, found, after)
        began = time.monotonic()
        told = await asyncio.to_thread(self._told, stored.request.request, found, after)
        await asyncio.sleep(REST * (time.monotonic() - began))
        return told

    def _told(self, request: str, found: list[Any], after: str | None) -> str:
        iterations, cursor = joined(entries(found), self._spell)
        has_more = len(found) == PAGE
        if has_more and cursor is None:  # or the next page would be the same
            cursor = found[-1][0].decode()
        told = {"id": request, "object": "inspect", "cursor": cursor or after or BEGINNING, "more": has_more}
        return encode({**told, "iterations": iterations})

    def _spell(self, token: int) -> str:
        return token_bytes(self._tokenizer, token).decode(errors="replace")
