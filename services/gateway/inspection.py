"""`/v1/streams/{id}/inspect`: what the iterations of an inspected request were. Tokens are the tenant's content."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from services.gateway import admission
from services.gateway.bus import Bus
from services.gateway.errors import invalid
from services.gateway.iterations import joined
from services.gateway.responses import encode
from services.gateway.resumption import Resumption
from services.gateway.tenancy import unknown_stream
from shared.detokenizer import token_bytes
from shared.errors import BusUnavailable
from shared.tokenizer import Tokenizer

BEGINNING = "0-0"
_CURSOR = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


class Inspection:
    """Reads what selector and verifiers have told of a request."""

    def __init__(self, bus: Bus, resumption: Resumption, tokenizer: Tokenizer) -> None:
        self._bus = bus
        self._resumption = resumption
        self._tokenizer = tokenizer

    async def iterations(self, tenant: str | None, stream: str, after: str | None) -> str:
        """JSON of the iterations after a cursor; ``tenant`` None reads anybody's. Raises ApiError."""
        if after is not None and not _CURSOR.fullmatch(after):
            raise invalid("after", f"must be the cursor of an earlier answer (got {after[:32]!r})")
        stored = await self._resumption.accessible(tenant, stream)
        if not stored.request.inspect:
            raise unknown_stream()
        try:
            entries = await self._bus.inspected(stored.request.request, after)
        except BusUnavailable:
            raise admission.unavailable("the message bus does not answer") from None
        return await asyncio.to_thread(self._told, stored.request.request, entries, after)

    def _told(self, request: str, entries: list[Any], after: str | None) -> str:
        iterations, cursor = joined(entries, self._spell)
        told = {"id": request, "object": "inspect", "cursor": cursor or after or BEGINNING}
        return encode({**told, "iterations": iterations})

    def _spell(self, token: int) -> str:
        return token_bytes(self._tokenizer, token).decode(errors="replace")
