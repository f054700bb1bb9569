"""The API keys that this gateway knows: Redis' and a file's, in memory, so that they work while Redis is away.

Redis holds them for all gateways and is asked twice a second whether anything has changed. What it forgets, a key
or that one was revoked, the gateways put back.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from services.gateway.admission import unavailable
from services.gateway.audit import SYSTEM, Record
from services.gateway.bus import Bus
from services.gateway.errors import ApiError
from services.gateway.followed_file import FollowedFile
from services.gateway.tasks import end, vital
from shared import door_scripts, signals
from shared.api_keys import ApiKey, Scope, merged, unpack_keys
from shared.door_scripts import KeyChange, KeyRecords
from shared.errors import BusUnavailable, PolicyError, UnreadableMessage
from shared.key_file import parse_key_file
from shared.telemetry import Telemetry

logger = logging.getLogger(__name__)

POLL_S = 0.5
REMIND_S = 60.0  # between two lines in the log about keys that cannot be read
MAX_NAMED = 100  # ids in an event of the audit log


class KeyRing:
    """Keys by id. They never grow too old to be used: how old they are is a metric."""

    def __init__(
        self,
        bus: Bus,
        telemetry: Telemetry,
        record: Record,
        file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._telemetry = telemetry
        self._record = record
        self._file = None if file is None else FollowedFile(file)
        self._clock = clock
        self._keys: Mapping[str, ApiKey] = {}
        self._records: Mapping[bytes, bytes] = {}  # as they were in Redis when they were last read
        self._read: Mapping[str, ApiKey] = {}  # the same, unpacked
        self._stored: Mapping[str, ApiKey] = {}  # as Redis should have them
        self._from_file: Mapping[str, ApiKey] = {}
        self._version = ""
        self._read_at = clock()
        self._warned_at = -REMIND_S
        self._task: asyncio.Task[None] | None = None

    @property
    def keys(self) -> Mapping[str, ApiKey]:
        """All of them, whether or not they are good now."""
        return self._keys

    @property
    def has_admin(self) -> bool:
        """Whether some key was ever made for /admin."""
        return any(Scope.ADMIN in key.scopes for key in self._keys.values())

    @property
    def age_s(self) -> float:
        """How long ago Redis has confirmed them."""
        return self._clock() - self._read_at

    async def load(self) -> None:
        """Read all. Raises PolicyError for a bad file, BusUnavailable where there is no file."""
        if self._file is not None:
            self._from_file = parse_key_file(self._file.path, self._file.read())
            self._join()
        try:
            await self.refresh()
        except (BusUnavailable, UnreadableMessage) as error:
            if self._file is None:
                raise
            self._warn(error)

    def start(self) -> None:
        """Keep up from now on."""
        self._task = vital(self._poll())

    async def stop(self) -> None:
        if self._task is not None:
            await end([self._task])

    async def refresh(self) -> None:
        """Read what has changed. Raises BusUnavailable, and UnreadableMessage for more keys than anybody has."""
        records = await self._bus.call(door_scripts.read_keys(self._bus.keys, known_version=self._version))
        if records is not None:
            await self._take(records)
        self._read_at = self._clock()

    async def put(self, key: ApiKey, replaces: ApiKey | None) -> None:
        """Store a key for all gateways. Raises ApiError 409 where another has changed it meanwhile, 503."""
        stored = self._stored.get(key.id)
        before = b"" if replaces is None or stored is None else stored.pack()
        change = KeyChange(key.id, key.pack(), before)
        try:
            refused = await self._write([change])
        except BusUnavailable:
            raise unavailable(
                "the message bus does not answer; the key may or may not have been changed"
            ) from None
        if refused:
            raise ApiError(409, f"key {key.id}: somebody else has just changed it; look again", code="key_changed")
        self._stored = {**self._stored, key.id: key}
        self._join()

    async def _poll(self) -> None:
        if self._file is not None:  # it may have changed while no gateway ran
            about = {"file": str(self._file.path), "version": self._file.version, "num_keys": len(self._from_file)}
            await self._record("keys.load", who=SYSTEM, before=None, after=about)
        while True:
            await asyncio.sleep(POLL_S)
            if self._file is not None:
                await self._follow(self._file)
            try:
                await self.refresh()
            except (BusUnavailable, UnreadableMessage) as error:
                self._warn(error)
            self._telemetry.set(signals.API_KEYS_AGE, self.age_s)
            self._telemetry.set(signals.API_KEYS, len(self._keys))

    async def _take(self, records: KeyRecords) -> None:
        changed = {name: record for name, record in records.by_id.items() if self._records.get(name) != record}
        # Thousands of records, as at the start, take a tenth of a second, in which every stream would wait.
        found, unreadable = await asyncio.to_thread(unpack_keys, changed)
        names = {name.decode(errors="replace") for name in records.by_id.keys() - changed.keys()}
        read = {key_id: key for key_id, key in self._read.items() if key_id in names} | found
        self._records, self._read = records.by_id, read
        for key_id in unreadable:
            logger.error("API key %s cannot be read and is not known here", key_id)
        self._stored, forgotten = merged(self._stored, read)
        self._version = records.version
        self._join()
        if forgotten:
            logger.warning("Redis has forgotten %d API keys, or changes of them: put back", len(forgotten))
            self._version = ""  # should that fail, the next look finds them missing again
            await self._write(
                [KeyChange(key.id, key.pack(), records.by_id.get(key.id.encode(), b"")) for key in forgotten]
            )
            self._version = records.version

    async def _write(self, changes: list[KeyChange]) -> list[str]:
        version = secrets.token_hex(8)
        return await self._bus.call(door_scripts.write_keys(self._bus.keys, new_version=version, changes=changes))

    def _join(self) -> None:
        self._keys, _ = merged(self._from_file, self._stored)

    async def _follow(self, file: FollowedFile) -> None:
        """All of a changed file counts, or nothing of it where it is bad."""
        try:
            data = await asyncio.to_thread(file.look)
            if data is None:
                return
            found = await asyncio.to_thread(parse_key_file, file.path, data)
        except PolicyError as error:
            logger.error("%s; the keys before go on", error)
            await self._record("keys.refused", who=SYSTEM, before=None, after={"message": str(error)})
            return
        before, self._from_file = self._from_file, found
        self._join()
        logger.info("%s: %d API keys", file.path, len(found))
        await self._record("keys.reload", who=SYSTEM, before=None, after=_changes(before, found))

    def _warn(self, error: Exception) -> None:
        if self._clock() - self._warned_at >= REMIND_S:
            self._warned_at = self._clock()
            logger.warning(
                "API keys cannot be read: %s; %d known ones go on, %.0f s old", error, len(self._keys), self.age_s
            )


def _changes(before: Mapping[str, ApiKey], after: Mapping[str, ApiKey]) -> dict[str, Any]:
    """What a new file has changed, by the keys' ids; of very many only the first."""
    common = before.keys() & after.keys()
    ids = {
        "added": after.keys() - common,
        "removed": before.keys() - common,
        "changed": {key_id for key_id in common if before[key_id] != after[key_id]},
    }
    counts = {f"num_{name}": len(found) for name, found in ids.items()}
    return counts | {name: sorted(found)[:MAX_NAMED] for name, found in ids.items()}
