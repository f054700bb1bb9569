"""Whether a client's JSON Schema can be followed, asked of a process that may be killed (`schema_compiler`)."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import OrderedDict
from hashlib import blake2b

from services.gateway.errors import ApiError, invalid
from services.gateway.tasks import end
from services.gateway.turns import Turns

logger = logging.getLogger(__name__)

PARAM = "response_format.json_schema.schema"
MAX_KNOWN = 4096
QUEUE_S = 5.0  # for one's turn
ANSWER_S = 2.0  # the compiler limits itself to less; what takes longer is a process that is stuck
START_S = 60.0


class SchemaCheck:
    """Asks about each schema once. ``target`` is the model whose tokens the grammar is made of.

    The process starts with the first schema: who never sends one does not pay for it.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._known: OrderedDict[bytes, str] = OrderedDict()
        self._asking: dict[tuple[str, bytes], asyncio.Task[str]] = {}  # by tenant: none waits in another's queue
        self._turns = Turns()
        self._process: asyncio.subprocess.Process | None = None

    async def check(self, schema: str, tenant: str) -> None:
        """Raises ApiError 400 with the reason, 503 where the compiler is busy or cannot be had."""
        text = schema.encode()
        refusal = await self._refusal(blake2b(text, digest_size=16).digest(), schema, tenant)
        if refusal:
            raise invalid(PARAM, f"{refusal} (schema of {len(text)} bytes)", code="invalid_json_schema")

    async def stop(self) -> None:
        await end(self._asking.values())
        await self._kill()

    async def _refusal(self, name: bytes, schema: str, tenant: str) -> str:
        if name in self._known:
            self._known.move_to_end(name)
            return self._known[name]
        asking = self._asking.get((tenant, name))
        if asking is None:
            asking = asyncio.create_task(self._ask_in_turn(name, schema, tenant))
            self._asking[tenant, name] = asking
            asking.add_done_callback(lambda task: self._answered(tenant, name, task))
        return await asyncio.shield(asking)  # a client that leaves must not leave its answer to the next one

    def _answered(self, tenant: str, name: bytes, asking: asyncio.Task[str]) -> None:
        del self._asking[tenant, name]
        if not asking.cancelled():
            asking.exception()  # heard, though all who asked may have left

    async def _ask_in_turn(self, name: bytes, schema: str, tenant: str) -> str:
        try:
            async with self._turns.turn(tenant, QUEUE_S):
                if name not in self._known:  # another tenant may have asked the same meanwhile
                    self._know(name, await self._ask_or_replace(schema))
                return self._known[name]
        except TimeoutError:
            raise _busy() from None

    def _know(self, name: bytes, refusal: str) -> None:
        self._known[name] = refusal
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    async def _ask_or_replace(self, schema: str) -> str:
        try:
            answer = await self._ask(schema)
        except (TimeoutError, OSError, ValueError) as error:
            logger.error("the schema compiler has failed and is started again: %s", type(error).__name__)
            await self._kill()
            raise _busy() from None
        if answer is None:
            raise _busy()
        return answer

    async def _ask(self, schema: str) -> str | None:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps(schema).encode() + b"\n")
        await process.stdin.drain()
        return await _line(process, ANSWER_S)

    async def _start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.gateway.schema_compiler",
            self._target,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            await _line(process, START_S)  # it is there
        except BaseException:
            process.kill()
            await process.wait()
            raise
        return process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()


async def _line(process: asyncio.subprocess.Process, patience_s: float) -> str | None:
    """The next line of JSON: a text, or null. Raises TimeoutError, ValueError where the process has ended."""
    assert process.stdout is not None
    async with asyncio.timeout(patience_s):
        said = json.loads(await process.stdout.readline())
        return None if said is None else str(said)


def _busy() -> ApiError:
    return ApiError(503, "No capacity now: too many new JSON Schemas", code="unavailable", retry_after_s=1.0)
