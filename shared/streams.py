"""Connections to Redis Streams and the three ways of reading them (docs/protocol.md, Redis Streams rules).

    HintReader   XREAD, single reader: draft, verify, tokens, control
    GroupReader  XREADGROUP NOACK, any of several readers: select
    WorkReader   XREADGROUP with acknowledgement inside claim: requests (`shared.work`)

redis-py's own retries are off, because a lost reply would make an XADD append twice: whoever calls decides what
may be repeated. Every method raises BusUnavailable where Redis may answer later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from shared.client import Client
from shared.failures import bus_errors, classify, is_group_gone, is_reply
from shared.functions import Command, execute, is_missing_function, load_library
from shared.topics import HINT_MAXLEN, OWNED_STREAM_TTL_S

MAX_BLOCK_MS = 1_000
"""Longest BLOCK; also how late a stop or a lost connection is noticed."""
COMMAND_TIMEOUT_S = 1.0
"""A hanging Redis fails its callers after this long."""
BLOCKING_TIMEOUT_S = MAX_BLOCK_MS / 1_000 + 1.0
"""Above MAX_BLOCK_MS: a socket that gives up before BLOCK ends never returns an entry."""
MAX_ENTRIES = 1_024
"""Entries of one read."""


def connect(url: str, *, blocking: bool = False) -> Redis:
    """A client for commands, or one of its own for blocking reads. ``unix://``, ``redis://`` or ``rediss://``."""
    client: Redis = Client.from_url(url, retry=Retry(NoBackoff(), 0), **_options(blocking))
    return client


def connect_async(url: str, *, blocking: bool = False) -> AsyncRedis:
    """`connect` for asyncio, where a command waits until its caller gives up.

    A timer of the socket would also count the time in which this process itself did not run.
    """
    options = _options(blocking) | ({} if blocking else {"socket_timeout": None})
    client: AsyncRedis = AsyncRedis.from_url(url, retry=AsyncRetry(NoBackoff(), 0), **options)
    return client


def _options(blocking: bool) -> dict[str, Any]:
    return {
        "protocol": 2,  # RESP3 costs a HELLO per connection, brings pushes, and nothing that is used here
        "decode_responses": False,
        "retry_on_timeout": False,
        "socket_connect_timeout": COMMAND_TIMEOUT_S,
        "socket_timeout": BLOCKING_TIMEOUT_S if blocking else COMMAND_TIMEOUT_S,
        "health_check_interval": 0,
        "driver_info": None,  # CLIENT SETINFO is another right, and unknown to Redis 7.0
    }


class Entry(NamedTuple):
    """One stream entry. `sent_at` is the sender's wall clock in ms, for telemetry only (0.0 where absent)."""

    id: str
    body: bytes
    traceparent: str | None
    sent_at: float
    fields: Mapping[bytes, bytes]

    @classmethod
    def parse(cls, entry_id: bytes, fields: Mapping[bytes, bytes] | list[bytes]) -> Entry:
        """An entry as redis-py returns it, or as Redis does, with names and values in turn.

        An absent or odd field is empty: the body decides what is valid.
        """
        if isinstance(fields, list):
            fields = dict(zip(fields[::2], fields[1::2], strict=True))
        trace = fields.get(b"traceparent")
        return cls(
            id=entry_id.decode(),
            body=fields.get(b"body", b""),
            traceparent=trace.decode("ascii", "replace") if trace else None,
            sent_at=_milliseconds(fields.get(b"sent_at")),
            fields=fields,
        )

    @property
    def committed_at(self) -> float:
        """Redis' clock in ms at the commit that published this entry (0.0 for other entries)."""
        return _milliseconds(self.fields.get(b"committed_at"))


def _milliseconds(value: bytes | None) -> float:
    try:
        return float(value) if value else 0.0
    except ValueError:
        return 0.0


def hint(
    stream: str, body: bytes, *, traceparent: str | None, now_ms: float, maxlen: int = HINT_MAXLEN
) -> Command:
    """An XADD for a stream its owner keeps. The reply is nil where the reader is gone: an immediate miss."""
    command: Command = ("XADD", stream, "NOMKSTREAM", "MAXLEN", "~", maxlen, "*", "body", body)
    command += ("sent_at", f"{now_ms:.3f}")
    return command if traceparent is None else (*command, "traceparent", traceparent)


def broadcast(stream: str, body: bytes, *, traceparent: str | None, now_ms: float, maxlen: int) -> Command:
    """An XADD for a stream nobody owns, such as control."""
    command = hint(stream, body, traceparent=traceparent, now_ms=now_ms, maxlen=maxlen)
    return tuple(word for word in command if word != "NOMKSTREAM")


def send(client: Redis, commands: Sequence[Command], meanwhile: Callable[[], None] = lambda: None) -> list[Any]:
    """Runs commands in one write without MULTI; replies in order, error replies as exception objects.

    ``meanwhile`` is called once the commands have left and before their replies are waited for.
    A command the server refused because it lost the function library has not run: the library is loaded and only
    these commands are sent again. After BusUnavailable it is unknown which commands ran.
    """
    with bus_errors():
        replies = _pipeline(client, commands, meanwhile)
        lost = [index for index, reply in enumerate(replies) if is_missing_function(reply)]
        if lost:
            load_library(client)
            again = _pipeline(client, [commands[index] for index in lost])
            for index, reply in zip(lost, again, strict=True):
                replies[index] = reply
    return replies


def _pipeline(
    client: Redis, commands: Sequence[Command], meanwhile: Callable[[], None] = lambda: None
) -> list[Any]:
    if isinstance(client, Client) and (found := client.exchange(commands, meanwhile)) is not None:
        return found
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
    replies: list[Any] = pipeline.execute(raise_on_error=False)
    meanwhile()
    return replies


def check(replies: Iterable[Any]) -> None:
    """Raises the first error among a pipeline's replies, classified."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise classify(reply) from reply


def block_argument(block_ms: float | None) -> Command:
    """BLOCK of at least 1 ms (0 would mean for ever) and at most MAX_BLOCK_MS; nothing for None."""
    if block_ms is None:
        return ()
    return ("BLOCK", max(1, min(MAX_BLOCK_MS, round(block_ms))))


def read_command(cursors: Mapping[str, str], block_ms: float | None) -> Command:
    """An XREAD of several streams, each after its cursor; `parse_streams` reads the reply."""
    words: Command = ("COUNT", MAX_ENTRIES, *block_argument(block_ms))
    return ("XREAD", *words, "STREAMS", *cursors, *cursors.values())


def parse_streams(reply: Any) -> dict[str, list[Entry]]:
    """Entries by stream of an XREAD or XREADGROUP reply; deleted entries of a pending list are left out."""
    return {
        name.decode(): [Entry.parse(entry_id, fields) for entry_id, fields in entries if fields]
        for name, entries in reply or ()
    }


def _read(client: Redis, command: Command) -> dict[str, list[Entry]]:
    """Entries by stream of an XREAD or XREADGROUP, without what redis-py would make of the reply first."""
    return parse_streams(client.raw(command) if isinstance(client, Client) else execute(client, command))


class HintReader:
    """Reads several streams at once, each from a cursor of its own.

    `streams` are read from their beginning, `latest` (streams others own too) from the first entry after the first
    read. Needs a blocking client if it is to block.
    """

    def __init__(self, client: Redis, streams: Sequence[str], *, latest: Sequence[str] = ()) -> None:
        self._client = client
        self._cursors: dict[str, str | None] = dict.fromkeys(streams, "0-0") | dict.fromkeys(latest)
        self._recreated: set[str] = set()

    def reset(self, stream: str) -> None:
        """Reads `stream` from its beginning at the next read; its owner recreated it. Safe from another thread."""
        self._recreated.add(stream)

    def read(self, block_ms: float | None) -> dict[str, list[Entry]]:
        """New entries by stream; streams without any are absent. None does not wait."""
        with bus_errors():
            entries = _read(self._client, read_command(self._resolved(), block_ms))
        for stream, new in entries.items():
            if new:
                self._cursors[stream] = new[-1].id
        return entries

    def close(self) -> None:
        """Nothing to give back: a single reader leaves no trace in Redis."""

    def _resolved(self) -> dict[str, str]:
        while self._recreated:
            self._cursors[self._recreated.pop()] = "0-0"
        resolved = {stream: cursor or self._last_id(stream) for stream, cursor in self._cursors.items()}
        self._cursors.update(resolved)
        return resolved

    def _last_id(self, stream: str) -> str:
        # XREAD's `$` would mean another place at each call that does not block.
        try:
            about = self._client.xinfo_stream(stream)
        except ResponseError as error:
            if not is_reply(error, "no such key"):
                raise
            return "0-0"
        last: bytes = about["last-generated-id"]
        return last.decode()


class GroupReader:
    """Reads one stream as one of several interchangeable consumers; entries are delivered once and never again."""

    def __init__(self, client: Redis, stream: str, group: str, consumer: str) -> None:
        self._client = client
        self._stream = stream
        self._group = group
        self._consumer = consumer

    def read(self, block_ms: float | None, count: int = 16) -> dict[str, list[Entry]]:
        """Up to `count` entries (few: others could take the rest). A missing group is created at the end."""
        words: Command = ("GROUP", self._group, self._consumer, "COUNT", count, *block_argument(block_ms))
        with bus_errors():
            try:
                return _read(self._client, ("XREADGROUP", *words, "NOACK", "STREAMS", self._stream, ">"))
            except ResponseError as error:
                if not is_group_gone(error):
                    raise
                create_group(self._client, self._stream, self._group, at="$")
                return {}

    def close(self) -> None:
        """Leaves the group. NOACK readers have nothing pending that could be lost."""
        with bus_errors():
            try:
                self._client.xgroup_delconsumer(self._stream, self._group, self._consumer)
            except ResponseError as error:
                if not is_reply(error, "NOGROUP") and "requires the key to exist" not in str(error):
                    raise


def create_group(client: Redis, stream: str, group: str, *, at: str) -> None:
    """Creates stream and group; a group that exists is left as it is. Raises BusUnavailable."""
    with bus_errors():
        try:
            client.xgroup_create(stream, group, id=at, mkstream=True)
        except ResponseError as error:
            if not is_reply(error, "BUSYGROUP"):
                raise


@dataclass(frozen=True, slots=True)
class OwnedStream:
    """A stream its reader keeps alive. `group` is the permanent group of `select`, or None."""

    name: str
    group: str | None = None


def keep_alive(client: Redis, streams: Sequence[OwnedStream]) -> list[str]:
    """Renews the streams' expiry and creates those that are gone; names of the created ones.

    Their readers then start again at the beginning, and whoever relied on older entries asks for them anew.
    """
    with bus_errors():
        renewed = _pipeline(client, [("EXPIRE", stream.name, OWNED_STREAM_TTL_S) for stream in streams])
        check(renewed)
        gone = [stream for stream, alive in zip(streams, renewed, strict=True) if not alive]
        for stream in gone:
            _create(client, stream)
    return [stream.name for stream in gone]


def delete_streams(client: Redis, streams: Sequence[OwnedStream]) -> None:
    """Deletes those that nobody else reads: whoever sends to one hears at once that its reader is gone.

    Raises BusUnavailable.
    """
    check(send(client, [("DEL", stream.name) for stream in streams if stream.group is None]))


def _create(client: Redis, stream: OwnedStream) -> None:
    # An empty stream exists only through a group. MULTI: no moment in which it has no expiry.
    group = stream.group or "creation"
    pipeline = client.pipeline(transaction=True)
    pipeline.xgroup_create(stream.name, group, id="$", mkstream=True)
    if stream.group is None:
        pipeline.xgroup_destroy(stream.name, group)
    pipeline.expire(stream.name, OWNED_STREAM_TTL_S)
    for reply in pipeline.execute(raise_on_error=False):
        if isinstance(reply, Exception) and not is_reply(reply, "BUSYGROUP"):
            raise reply
