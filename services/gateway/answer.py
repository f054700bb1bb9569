"""One HTTP answer: the choices that a client asked for with `n`, each a completion of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeVar

from services.gateway.accounts import Account
from services.gateway.admission import Leaving
from services.gateway.completion import Completion
from services.gateway.tasks import end

T = TypeVar("T")


def choice_id(request: str, index: int) -> str:
    """The request's id of one choice, 32 hex digits; that of the first is the answer's."""
    if index == 0:
        return request
    name = f"{request}-{index}".encode()
    return blake2b(name, digest_size=16, person=b"adaserve-choice").hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """At least one completion, by index; a choice that was joined alone is the only one of its answer."""

    completions: Sequence[Completion]
    limits: Mapping[str, str] = field(default_factory=dict)  # headers of the tenant's, where it was counted

    @property
    def accounts(self) -> list[Account]:
        """Each choice's figures up to now."""
        return [completion.account() for completion in self.completions]

    def close(self, error: str | None = None) -> None:
        """Cancel (or leave) every choice that has not ended. Idempotent."""
        for completion in self.completions:
            completion.close(error)

    def withdraw(self, error: str) -> None:
        """Cancel every choice: nobody will come back for what was refused."""
        for completion in self.completions:
            completion.close(error, may_return=False)

    def leaving(self) -> Leaving:
        """That this gateway goes, and where every choice goes on."""
        return Leaving(*(completion.id for completion in self.completions))


async def merged(sources: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """What any source yields, as it comes; the first exception of one ends all. A single one costs nothing."""
    if len(sources) == 1:
        async for only in sources[0]:
            yield only
        return
    # Each source waits for its last item to be taken: a slow reader must not make a backlog here.
    arrived: asyncio.Queue[tuple[T] | Exception | None] = asyncio.Queue(maxsize=len(sources))

    async def pump(source: AsyncGenerator[T, None]) -> None:
        try:
            async for item in source:
                await arrived.put((item,))
            await arrived.put(None)
        except Exception as error:
            await arrived.put(error)

    pumps = [asyncio.create_task(pump(source)) for source in sources]
    try:
        num_open = len(sources)
        while num_open:
            found = await arrived.get()
            if isinstance(found, Exception):
                raise found
            if found is None:
                num_open -= 1
            else:
                yield found[0]
    finally:
        await end(pumps)
