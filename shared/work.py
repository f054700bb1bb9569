"""Reading the work queues: every entry stays pending until the claim script has taken its request."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from shared.errors import BusUnavailable
from shared.failures import bus_errors, is_group_gone, is_reply
from shared.functions import Command, execute
from shared.replies import text
from shared.scripts import call, forget_consumer, refill
from shared.streams import Entry, block_argument, check, create_group, parse_streams, send
from shared.topics import NUM_TIERS, VERIFIER_GROUP, Keys

Work = list[tuple[str, Entry]]
MAX_ID_BYTES = 64
"""Longest request id an entry may name."""


class WorkReader:
    """One verifier's view of `requests:released` and the tiers, as a consumer of their common group.

    Entries come in the order they should be claimed. An entry that was read and not claimed, because a reply was
    lost, is handed out again: after a BusUnavailable the own pending entries are read before new ones.
    """

    def __init__(self, client: Redis, keys: Keys, consumer: str) -> None:
        self._client = client
        self._keys = keys
        self._consumer = consumer
        self._streams = [keys.released, *(keys.requests(tier) for tier in range(NUM_TIERS))]
        self._recovering = False
        self.num_recreated = 0
        """Groups found missing and created again: each one is an incident, the gateways have to seed anew."""

    def create_groups(self) -> None:
        """Creates all queues with their group at 0, so that no backlog is missed. Raises BusUnavailable."""
        for stream in self._streams:
            create_group(self._client, stream, VERIFIER_GROUP, at="0")

    def recover(self) -> None:
        """Reads own pending entries next; call it after a claim failed with BusUnavailable."""
        self._recovering = True

    def read(self, count: int, start_lowest: bool = False, block_ms: float | None = None) -> Work:
        """Up to `count` entries: released first, then tiers in order (or the lowest tier before all others).

        With `block_ms` (a blocking client) waits for work when there is none; then every queue may give one entry,
        so at least NUM_TIERS + 1 requests must fit. Raises BusUnavailable.
        """
        try:
            with bus_errors():
                return self._read(count, start_lowest, block_ms)
        except BusUnavailable:
            self._recovering = True
            raise

    def _read(self, count: int, start_lowest: bool, block_ms: float | None) -> Work:
        if self._recovering:
            pending = self._group_read(self._streams, count, "0")
            if pending:
                return pending[:count]
            self._recovering = False
        work: Work = []
        for stream in self._waiting(start_lowest):
            if len(work) >= count:
                break
            work += self._group_read([stream], count - len(work), ">")
        if not work and block_ms is not None and count > NUM_TIERS:
            work = self._group_read(self._streams, 1, ">", block_ms)
        return work

    def _waiting(self, start_lowest: bool) -> Iterator[str]:
        order = [self._streams[-1], *self._streams[:-1]] if start_lowest else self._streams
        lengths = send(self._client, [("XLEN", stream) for stream in order])
        check(lengths)
        return (stream for stream, length in zip(order, lengths, strict=True) if length)

    def _group_read(self, streams: list[str], count: int, start: str, block_ms: float | None = None) -> Work:
        words: Command = (
            "GROUP",
            VERIFIER_GROUP,
            self._consumer,
            "COUNT",
            count,
            *block_argument(block_ms),
        )
        try:
            reply = execute(self._client, ("XREADGROUP", *words, "STREAMS", *streams, *[start] * len(streams)))
        except ResponseError as error:
            if not is_group_gone(error):
                raise
            self.num_recreated += 1
            self.create_groups()
            return []
        for name, entries in reply or ():
            self._forget_deleted(name, entries)
        found = parse_streams(reply)
        return [
            (stream, entry)
            for stream in streams
            for entry in found.get(stream, ())
            if self._is_sound(stream, entry)
        ]

    def _forget_deleted(self, stream: bytes, entries: list[Any]) -> None:
        # A pending entry that a cancel or another claim has deleted holds no work any more.
        deleted = [entry_id for entry_id, fields in entries if not fields]
        if deleted:
            self._client.xack(stream, VERIFIER_GROUP, *deleted)

    def _is_sound(self, stream: str, entry: Entry) -> bool:
        """Whether the entry names a request; otherwise it goes to the dead letters, with the reason."""
        if entry.body and len(entry.body) <= MAX_ID_BYTES and entry.body.isascii():
            return True
        pipeline = self._client.pipeline(transaction=True)
        pipeline.xadd(
            self._keys.dead, {"reason": "queue entry names no request", "stream": stream, "entry": entry.id}
        )
        pipeline.xack(stream, VERIFIER_GROUP, entry.id)
        pipeline.xdel(stream, entry.id)
        pipeline.execute()
        return False

    def reclaim(self, live: Container[str]) -> Work:
        """Takes over pending entries of consumers that are not in `live`, and deletes those without any.

        Entries that are pending here, when nothing is being claimed, come with the next `read`. For a verifier
        whose own heartbeat has been on time for two TTLs. Raises BusUnavailable.
        """
        work: Work = []
        with bus_errors():
            for tier in range(NUM_TIERS):
                call(self._client, refill(self._keys, tier))
            for stream in self._streams:
                for consumer, num_pending in self._consumers(stream):
                    if consumer == self._consumer:
                        # A read that was given up may have run after the own pending entries were looked at.
                        self._recovering = self._recovering or num_pending > 0
                        continue
                    if consumer in live:
                        continue
                    if num_pending:
                        work += self._take(stream, consumer, num_pending)
                    else:
                        call(self._client, forget_consumer(self._keys, stream=stream, consumer=consumer))
        return work

    def _consumers(self, stream: str) -> list[tuple[str, int]]:
        """Name and number of pending entries of each; none where the stream or its group is gone."""
        try:
            found = self._client.xinfo_consumers(stream, VERIFIER_GROUP)
        except ResponseError as error:
            if not is_group_gone(error) and not is_reply(error, "no such key"):
                raise
            return []
        return [(text(consumer["name"]), int(consumer["pending"])) for consumer in found]

    def _take(self, stream: str, consumer: str, count: int) -> Work:
        pending = self._client.xpending_range(stream, VERIFIER_GROUP, "-", "+", count, consumername=consumer)
        ids = [item["message_id"] for item in pending]
        if not ids:
            return []
        claimed: Any = execute(self._client, ("XCLAIM", stream, VERIFIER_GROUP, self._consumer, 0, *ids))
        entries = [Entry.parse(entry_id, fields) for entry_id, fields in claimed if fields]
        return [(stream, entry) for entry in entries if self._is_sound(stream, entry)]


@dataclass(frozen=True, slots=True)
class Orphan:
    """A request to be claimed from its owner; `epoch` is what the claim has to expect."""

    request: str
    owner: str
    epoch: str


def owned_by(client: Redis, keys: Keys, owner: str) -> list[Orphan]:
    """Requests in a verifier's set. Raises BusUnavailable.

    In its own set a verifier finds requests it does not know: their claim took effect and its reply was lost.
    Nobody else can take them while it lives, so it has to look after every claim that failed. A request whose
    hash is gone has an empty epoch: claiming it takes it out of the set.
    """
    with bus_errors():
        requests = sorted(text(request) for request in client.smembers(keys.owned(owner)))
        epochs = send(client, [("HGET", keys.request(request), "epoch") for request in requests])
        check(epochs)
    return [Orphan(request, owner, text(epoch or b"")) for request, epoch in zip(requests, epochs, strict=True)]


def orphans(client: Redis, keys: Keys, live: Container[str]) -> list[Orphan]:
    """Requests owned by verifiers that are not in `live`. Raises BusUnavailable."""
    with bus_errors():
        members = sorted(text(member) for member in client.smembers(keys.members("verifier")))
    return [orphan for owner in members if owner not in live for orphan in owned_by(client, keys, owner)]
