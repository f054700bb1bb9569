"""Which verifiers live and what they offer, as their heartbeats tell."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from services.gateway.feasibility import Pace
from services.gateway.tasks import end, vital
from shared.errors import BusUnavailable
from shared.heartbeat import live_members
from shared.streams import connect
from shared.topics import Keys

logger = logging.getLogger(__name__)

POLL_S = 0.5


class Fleet:
    """Live verifiers with our token map. Fields of a heartbeat are optional: an absent one limits nothing."""

    def __init__(self, url: str, keys: Keys, token_map: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = connect(url)
        self._keys = keys
        self._token_map = token_map
        self._clock = clock
        self._verifiers: dict[str, dict[str, Any]] = {}
        self._last_seen = clock()  # when a usable verifier was last seen; a start counts as that
        self._refused: set[str] = set()
        self._zero_load_ms: float | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = vital(self._poll())

    async def stop(self) -> None:
        if self._task is not None:
            await end([self._task])
        self._client.close()

    @property
    def is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def is_ready(self) -> bool:
        """Whether a usable verifier lives and has warmed up."""
        return bool(self._verifiers)

    @property
    def silent_s(self) -> float:
        """How long no usable verifier has been seen."""
        return 0.0 if self._verifiers else self._clock() - self._last_seen

    @property
    def context_limit(self) -> int | None:
        """Context that every verifier takes: the request may go to any."""
        limits = [limit for v in self._verifiers.values() if type(limit := v.get("context_limit")) is int]
        return min(limits, default=None)

    @property
    def zero_load_ms(self) -> float | None:
        """Time per token of the fastest verifier when it is idle; while none lives, as it was."""
        return self._zero_load_ms

    @property
    def paces(self) -> list[Pace]:
        """How each usable verifier gets on."""
        return [Pace.of(about) for about in self._verifiers.values()]

    def modes(self) -> dict[str, dict[str, Any]]:
        """How each usable verifier decodes now, and why."""
        names = ("mode", "mode_reason", "mode_since_ms")
        return {
            member: {name.removeprefix("mode_"): about.get(name) for name in names}
            for member, about in sorted(self._verifiers.items())
        }

    async def refresh(self) -> None:
        """Look once. Raises BusUnavailable."""
        members = await asyncio.to_thread(live_members, self._client, self._keys, "verifier")
        self._verifiers = {name: about for name, about in members.items() if self._is_usable(name, about)}
        if self._verifiers:
            self._last_seen = self._clock()
        found = [ms for v in self._verifiers.values() if isinstance(ms := v.get("zero_load_ms"), float) and ms > 0]
        self._zero_load_ms = min(found, default=self._zero_load_ms)

    async def _poll(self) -> None:
        while True:
            try:
                await self.refresh()
            except BusUnavailable:
                self._verifiers = {}
            await asyncio.sleep(POLL_S)

    def _is_usable(self, name: str, about: dict[str, Any]) -> bool:
        other_map = about.get("token_map", self._token_map) != self._token_map
        if other_map and name not in self._refused:
            self._refused.add(name)
            logger.error("verifier %s has another token map than this gateway and is not counted", name)
        return not other_map and about.get("ready", True) is True
