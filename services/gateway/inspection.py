"""`/v1/streams/{id}/inspect`: an inspected request's iterations. Their tokens are the tenant's content."""

from __future__ import annotations

import re
from typing import Any

from services.gateway import admission
from services.gateway.bus import Bus
from services.gateway.errors import invalid
from services.gateway.iterations import joined
from services.gateway.prompts import Prompts
from services.gateway.responses import encode
from services.gateway.resumption import Resumption
from services.gateway.tenancy import unknown_stream
from shared.detokenizer import token_bytes
from shared.errors import BusUnavailable
from shared.inspect_store import entries
from shared.tokenizer import Tokenizer

BEGINNING = "0-0"
FEW = 16  # entries that are read and told in less than a millisecond; more in a thread, tenants in turn
_CURSOR = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


class Inspection:
    """Reads what selector and verifiers have told of a request."""

    def __init__(self, bus: Bus, resumption: Resumption, prompts: Prompts, tokenizer: Tokenizer) -> None:
        self._bus = bus
        self._resumption = resumption
        self._prompts = prompts
        self._tokenizer = tokenizer

    async def iterations(self, tenant: str | None, stream: str, after: str | None) -> str:
        """JSON of the iterations after a cursor; ``tenant`` None reads anybody's. Raises ApiError."""
        if after is not None and not _CURSOR.fullmatch(after):
            raise invalid("after", f"must be the cursor of an earlier answer (got {after[:32]!r})")
        stored = await self._resumption.accessible(tenant, stream)
        if not stored.request.inspect:
            raise unknown_stream()
        try:
            found = await self._bus.inspected(stored.request.request, after)
        except BusUnavailable:
            raise admission.unavailable("the message bus does not answer") from None
        is_long = len(found) > FEW
        return await self._prompts.run(is_long, stored.tenant, self._told, stored.request.request, found, after)

    def _told(self, request: str, found: list[Any], after: str | None) -> str:
        iterations, cursor = joined(entries(found), self._spell)
        told = {"id": request, "object": "inspect", "cursor": cursor or after or BEGINNING}
        return encode({**told, "iterations": iterations})

    def _spell(self, token: int) -> str:
        return token_bytes(self._tokenizer, token).decode(errors="replace")
