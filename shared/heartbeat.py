"""Who is alive: members announce themselves by a key that expires (docs/protocol.md, members).

Liveness is the key alone; the sets only list candidates. A member beats from a thread with its own connection, so
a long forward pass does not look like a death, and only while its loop turns, so a stuck loop does.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import msgpack
from redis import Redis

from shared.errors import BusUnavailable
from shared.failures import bus_errors
from shared.functions import Command, load_library
from shared.messages import ControlEvent
from shared.replies import text
from shared.scripts import call, forget_verifier
from shared.streams import OwnedStream, broadcast, check, connect, delete_streams, keep_alive, send
from shared.topics import CONTROL, CONTROL_MAXLEN, HEARTBEAT_PERIOD_MS, HEARTBEAT_TTL_MS, Keys, Kind

logger = logging.getLogger(__name__)

Clock = Callable[[], float]
AT_MS = "at_ms"
"""The member's own clock when it beat, for whoever looks whether clocks agree."""
_MAX_DESCRIPTION_BYTES = 1 << 16
_LIBRARY_S = 1.0  # how long an older function library may stay, once a process of a release before has loaded it
_MIN_STUCK_S = 5.0
_STUCK_STEPS = 10


def new_member(name: str) -> str:
    """``<name>.<boot nonce>``: a restarted process is another member."""
    return f"{name}.{secrets.token_hex(4)}"


class Pulse:
    """A loop's sign of life: healthy while it ticked within max(5 s, 10 × its last step). Any thread may ask."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._ticked = clock()
        self._step_s = 0.0

    def tick(self) -> None:
        """Called once in each turn of the loop."""
        now = self._clock()
        self._step_s = now - self._ticked
        self._ticked = now

    def healthy(self) -> bool:
        return self._clock() - self._ticked <= max(_MIN_STUCK_S, _STUCK_STEPS * self._step_s)


class Heartbeat:
    """Keeps one member's key, set membership and owned streams alive; a context manager, or `start` and `stop`.

    `describe` gives the map that others read, `on_recreated` hears the name of each owned stream that Redis had
    forgotten (`HintReader.reset`). Both run in the heartbeat's thread. With `keeps_library` no older function
    library stays for longer than a second: it would misread calls of this release.
    """

    def __init__(
        self,
        url: str,
        keys: Keys,
        kind: Kind,
        member: str,
        describe: Callable[[], dict[str, Any]],
        owned_streams: Sequence[OwnedStream] = (),
        healthy: Callable[[], bool] = lambda: True,
        *,
        on_recreated: Callable[[str], None] | None = None,
        keeps_library: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        self._client = connect(url)
        self._keys = keys
        self._kind: Kind = kind
        self._member = member
        self._describe = describe
        self._owned_streams = list(owned_streams)
        self._healthy = healthy
        self._on_recreated = on_recreated
        self._keeps_library = keeps_library
        self._library_due = -math.inf
        self._clock = clock
        self._stopping = threading.Event()
        self._has_left = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._last_beat: float | None = None  # when the SET of the last beat that succeeded was sent
        self._on_time_since = 0.0

    def start(self, *, needs_bus: bool = True) -> None:
        """Beats once, creating the owned streams; then in a thread of its own.

        Raises BusUnavailable, unless the first beat may wait for Redis too.
        """
        try:
            self.beat()
        except BusUnavailable:
            if needs_bus:
                raise
        self._thread.start()

    def leave(self) -> None:
        """Takes the member out of the cell, from the heartbeat's thread: nobody chooses it any more.

        Its own streams stay until `stop`: what was sent to it may still be answered. Returns at once.
        """
        self._stopping.set()

    def stop(self) -> None:
        """Takes the member and its streams out of the cell; where Redis is away, their expiry does it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._leave()
        try:
            delete_streams(self._client, self._owned_streams)
        except BusUnavailable:
            logger.warning("Redis is away: the streams of %s go by expiry", self._member)
        self._client.close()

    def __enter__(self) -> Heartbeat:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether the thread lives or was told to end; otherwise a bug in `describe` or `healthy` has ended it."""
        return self._stopping.is_set() or self._thread.is_alive()

    def on_time_for(self, ms: float) -> bool:
        """Whether the key has existed without a gap for at least `ms` until now, as seen from this process.

        A verifier takes over others' requests only after two TTLs of that: a Redis pause makes every member look
        dead to every other, and must not make everyone claim everyone.
        """
        now, last, since = self._clock(), self._last_beat, self._on_time_since
        if self._stopping.is_set():
            return False
        return last is not None and now - last < HEARTBEAT_TTL_MS / 1_000 and (now - since) * 1_000 >= ms

    def beat(self) -> None:
        """One beat: the library, then key, set, owned streams. Raises BusUnavailable."""
        if self._keeps_library and self._clock() >= self._library_due:
            load_library(self._client)
            self._library_due = self._clock() + _LIBRARY_S
        sent_at = self._clock()
        value: bytes = msgpack.packb({**self._describe(), AT_MS: round(time.time() * 1_000, 1)})
        key = self._keys.heartbeat(self._kind, self._member)
        commands: list[Command] = [
            ("SET", key, value, "PX", HEARTBEAT_TTL_MS),
            ("SADD", self._keys.members(self._kind), self._member),
        ]
        is_first = self._last_beat is None
        check(send(self._client, commands))
        self._count(sent_at, self._clock())
        created = keep_alive(self._client, self._owned_streams)
        if not is_first:
            self._tell(created)

    def _tell(self, created: Sequence[str]) -> None:
        for stream in created:
            logger.warning("stream %s was gone and is created again", stream)
            if self._on_recreated is not None:
                self._on_recreated(stream)

    def _count(self, sent_at: float, answered_at: float) -> None:
        # On time: answered before the key of the beat before could expire.
        if self._last_beat is None or answered_at - self._last_beat >= HEARTBEAT_TTL_MS / 1_000:
            self._on_time_since = answered_at
        self._last_beat = sent_at

    def _run(self) -> None:
        is_failing = False
        while not self._stopping.wait(HEARTBEAT_PERIOD_MS / 1_000):
            if not self._healthy():
                continue
            try:
                self.beat()
            except BusUnavailable as error:
                if not is_failing:  # once per outage: four lines a second would bury everything else
                    logger.warning("heartbeat of %s failed: %s", self._member, error)
                is_failing = True
            else:
                if is_failing:
                    logger.warning("heartbeat of %s is back", self._member)
                is_failing = False
        self._leave()

    def _leave(self) -> None:
        if self._has_left:
            return
        commands: list[Command] = [("DEL", self._keys.heartbeat(self._kind, self._member))]
        if self._kind == "drafter":  # verifiers choose another now, not at their next look
            event = CONTROL.encode(ControlEvent(kind="left", subject=self._member))
            now_ms = time.time() * 1_000
            commands.append(
                broadcast(self._keys.control, event, traceparent=None, now_ms=now_ms, maxlen=CONTROL_MAXLEN)
            )
        try:
            check(send(self._client, commands))
            _forget(self._client, self._keys, self._kind, [self._member])
            self._has_left = True
        except BusUnavailable:
            logger.warning("Redis is away: %s leaves by expiry", self._member)


def live_members(client: Redis, keys: Keys, kind: Kind, *, forgets: bool = True) -> dict[str, dict[str, Any]]:
    """What each live member says about itself, by member. Raises BusUnavailable.

    The set forgets members that are gone, but never a verifier that still owns requests: others find these by it.
    Who may only look, such as a drafter at verifiers, says ``forgets=False``.
    A member whose description cannot be read lives and is left out.
    """
    with bus_errors():
        members = sorted(text(member) for member in client.smembers(keys.members(kind)))
        if not members:
            return {}
        values = client.mget([keys.heartbeat(kind, member) for member in members])
    found = dict(zip(members, values, strict=True))
    if forgets:
        _forget(client, keys, kind, [member for member, value in found.items() if value is None])
    told = {member: described(value) for member, value in found.items()}
    return {member: description for member, description in told.items() if description is not None}


def clock_skew_ms(description: dict[str, Any], redis_ms: float) -> float | None:
    """How far a live member's clock is ahead of Redis', in ms, to half a TTL: its beat is a TTL old at most.

    None where it tells no time, as older releases do.
    """
    at = description.get(AT_MS)
    return float(at) - redis_ms + HEARTBEAT_TTL_MS / 2 if isinstance(at, int | float) else None


def has_dead(client: Redis, keys: Keys, kind: Kind) -> bool:
    """Whether a member of the set has no heartbeat: a cheap look between calls of `live_members`.

    Raises BusUnavailable.
    """
    with bus_errors():
        members = [text(member) for member in client.smembers(keys.members(kind))]
        return bool(members) and client.exists(*(keys.heartbeat(kind, member) for member in members)) < len(
            members
        )


def _forget(client: Redis, keys: Keys, kind: Kind, members: Sequence[str]) -> None:
    with bus_errors():
        for member in members:
            if kind == "verifier":
                call(client, forget_verifier(keys, member))
            else:
                client.srem(keys.members(kind), member)


def described(value: Any) -> dict[str, Any] | None:
    """What a heartbeat's value says; None where there is none, or it cannot be read."""
    if not isinstance(value, bytes) or len(value) > _MAX_DESCRIPTION_BYTES:
        return None
    try:
        description = msgpack.unpackb(value, max_ext_len=0)
    except (ValueError, msgpack.UnpackException):
        return None
    return description if isinstance(description, dict) else None
