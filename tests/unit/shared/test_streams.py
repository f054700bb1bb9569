"""Connections, the readers and owned streams on a real server, with each failure that can be provoked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis import exceptions as raised

from shared.embedded_redis import EmbeddedRedis
from shared.errors import BusUnavailable
from shared.failures import bus_errors, classify, kind_of
from shared.functions import aexecute, execute
from shared.streams import (
    MAX_BLOCK_MS,
    GroupReader,
    HintReader,
    OwnedStream,
    _create,
    block_argument,
    broadcast,
    check,
    connect,
    connect_async,
    create_group,
    hint,
    keep_alive,
    parse_streams,
    read_command,
    send,
)
from shared.topics import HINT_MAXLEN, OWNED_STREAM_TTL_S, Keys


@pytest.fixture
def other_server(redis_binary: str | None) -> Iterator[EmbeddedRedis]:
    """A server that a test may break."""
    with EmbeddedRedis(binary=redis_binary) as server:
        yield server


def add(client: Redis, stream: str, *bodies: bytes) -> None:
    check(send(client, [hint(stream, body, traceparent=None, now_ms=1.0) for body in bodies]))


def bodies(entries: Any) -> list[bytes]:
    return [entry.body for entry in entries]


# ---- connections ----


@pytest.mark.parametrize("blocking", [False, True])
def test_no_client_retries_and_a_socket_that_outlives_its_block(redis_url: str, blocking: bool) -> None:
    clients: list[Any] = [connect(redis_url, blocking=blocking), connect_async(redis_url, blocking=blocking)]
    for client in clients:
        options = client.connection_pool.connection_kwargs
        assert options["retry"].get_retries() == 0
        assert options["protocol"] == 2
    timeouts_s = [client.connection_pool.connection_kwargs["socket_timeout"] for client in clients]
    if blocking:
        assert timeouts_s == [MAX_BLOCK_MS / 1_000 + 1.0] * 2
    else:
        assert timeouts_s == [1.0, None]


class LosesReplies:
    """A server in front of nothing: counts the commands it is sent, and closes instead of answering one."""

    def __init__(self, folder: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.url = f"unix://{folder}/s"
        self.socket.bind(f"{folder}/s")
        self.socket.listen()
        self.num_writes = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(65536):
                    if b"XADD" in data:
                        self.num_writes += 1
                        break
                    connection.sendall(b"+OK\r\n" * data.count(b"CLIENT"))

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self._thread.join()


def test_a_lost_reply_is_not_retried(tmp_path: Path) -> None:
    server = LosesReplies(tmp_path)
    client = connect(server.url)
    try:
        with pytest.raises(BusUnavailable):
            send(client, [hint("s", b"once", traceparent=None, now_ms=0.0)])
        assert server.num_writes == 1
    finally:
        client.close()
        server.close()


# ---- failures by class ----


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (raised.ConnectionError("Connection refused"), "ConnectionError"),
        (raised.TimeoutError("Timeout reading from socket"), "TimeoutError"),
        (raised.ReadOnlyError("You can't write against a read only replica."), "READONLY"),
        (raised.BusyLoadingError("Redis is loading the dataset in memory"), "LOADING"),
        (raised.MasterDownError("Link with MASTER is down"), "MASTERDOWN"),
        (raised.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "OOM"),
        (raised.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "MISCONF"),
        (raised.NoPermissionError("this user has no permissions"), "NOPERM"),
        (raised.ResponseError("UNBLOCKED the stream key no longer exists"), "UNBLOCKED"),
        (raised.ResponseError("NOGROUP No such key"), "NOGROUP"),
        (raised.ResponseError("Function not found"), "Function not found"),
    ],
)
def test_what_may_pass_is_bus_unavailable_with_its_kind(error: Exception, kind: str) -> None:
    verdict = classify(error)
    assert isinstance(verdict, BusUnavailable)
    with pytest.raises(BusUnavailable) as caught, bus_errors():
        raise error
    assert kind_of(caught.value) == kind


def test_a_bug_stays_what_it_is() -> None:
    error = raised.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    assert classify(error) is error
    with pytest.raises(raised.ResponseError, match="WRONGTYPE"), bus_errors():
        raise error
    assert kind_of(error) == "ResponseError"


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BusUnavailable) as caught:
        send(connect(f"unix://{tmp_path}/none"), [("PING",)])
    assert kind_of(caught.value) == "ConnectionError"


def test_a_hanging_server_fails_its_callers_in_time(other_server: EmbeddedRedis) -> None:
    client = connect(other_server.url)
    client.connection_pool.connection_kwargs["socket_timeout"] = 0.05
    connect(other_server.url).execute_command("CLIENT", "PAUSE", "300", "ALL")  # type: ignore[no-untyped-call]
    with pytest.raises(BusUnavailable) as caught:
        HintReader(client, ["s"]).read(None)
    assert kind_of(caught.value) == "TimeoutError"


def test_a_replica_refuses_writes(other_server: EmbeddedRedis) -> None:
    client = connect(other_server.url)
    add(client, "s", b"x")
    client.replicaof("127.0.0.1", "1")
    with pytest.raises(BusUnavailable) as caught:
        check(send(client, [broadcast("s", b"x", traceparent=None, now_ms=0.0, maxlen=9)]))
    assert kind_of(caught.value) == "READONLY"
    with pytest.raises(BusUnavailable, match="read only"):
        create_group(client, "t", "g", at="0")


def test_a_full_server_refuses_writes(other_server: EmbeddedRedis) -> None:
    client = connect(other_server.url)
    client.config_set("maxmemory", "1")
    with pytest.raises(BusUnavailable) as caught:
        check(send(client, [broadcast("s", b"x", traceparent=None, now_ms=0.0, maxlen=9)]))
    assert kind_of(caught.value) == "OOM"
    with pytest.raises(BusUnavailable, match="maxmemory"):
        keep_alive(client, [OwnedStream("s")])


def test_a_user_without_rights(other_server: EmbeddedRedis) -> None:
    client = connect(other_server.url)
    client.acl_setuser("weak", enabled=True, nopass=True, keys=["other"], commands=["+@all"])
    execute(client, ("AUTH", "weak", "x"))
    with pytest.raises(BusUnavailable) as caught:
        HintReader(client, ["s"]).read(None)
    assert kind_of(caught.value) == "NOPERM"


def test_a_stream_deleted_under_a_blocked_reader_is_created_again(redis_url: str, keys: Keys) -> None:
    client, other = connect(redis_url, blocking=True), connect(redis_url)
    reader = GroupReader(client, keys.select, "g", "c")
    assert reader.read(None) == {}
    thread = threading.Timer(0.03, lambda: other.delete(keys.select))
    thread.start()
    assert reader.read(1_000) == {}
    thread.join()
    assert reader.read(None) == {}
    add(other, keys.select, b"x")
    assert bodies(reader.read(None)[keys.select]) == [b"x"]


# ---- hints ----


def test_a_hint_without_reader_is_a_miss_and_leaves_nothing(redis_client: Redis, keys: Keys) -> None:
    replies = send(redis_client, [hint(keys.draft("d.1"), b"x", traceparent=None, now_ms=0.0)])
    assert replies == [None]
    assert not redis_client.exists(keys.draft("d.1"))


def test_an_entry_carries_body_trace_and_time(redis_client: Redis, keys: Keys) -> None:
    stream = keys.verify("v.1")
    keep_alive(redis_client, [OwnedStream(stream)])
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    send(redis_client, [hint(stream, b"\x00\xff", traceparent=trace, now_ms=12.5)])
    (entry,) = HintReader(redis_client, [stream]).read(None)[stream]
    assert (entry.body, entry.traceparent, entry.sent_at) == (b"\x00\xff", trace, 12.5)
    assert entry.committed_at == 0.0


def test_an_entry_with_odd_fields_is_still_an_entry(redis_client: Redis, keys: Keys) -> None:
    redis_client.xadd(keys.control, {"sent_at": b"soon", "traceparent": b"\xff", "committed_at": "7.25"})
    (entry,) = HintReader(redis_client, [keys.control]).read(None)[keys.control]
    assert (entry.body, entry.sent_at, entry.committed_at) == (b"", 0.0, 7.25)


def test_hints_are_bounded(redis_client: Redis, keys: Keys) -> None:
    keep_alive(redis_client, [OwnedStream(keys.select)])
    add(redis_client, keys.select, *[b"x"] * (3 * HINT_MAXLEN))
    assert redis_client.xlen(keys.select) <= 2 * HINT_MAXLEN


def test_a_reader_follows_several_streams_from_their_beginnings(redis_client: Redis, keys: Keys) -> None:
    first, second = keys.draft("d.1"), keys.verify("v.1")
    keep_alive(redis_client, [OwnedStream(first), OwnedStream(second)])
    add(redis_client, first, b"1", b"2")
    reader = HintReader(redis_client, [first, second])
    assert {stream: bodies(found) for stream, found in reader.read(None).items()} == {first: [b"1", b"2"]}
    add(redis_client, second, b"3")
    assert {stream: bodies(found) for stream, found in reader.read(1).items()} == {second: [b"3"]}
    assert reader.read(0) == {}
    reader.close()


async def test_an_asyncio_client_uses_the_same_commands(redis_url: str, redis_client: Redis, keys: Keys) -> None:
    keep_alive(redis_client, [OwnedStream(keys.tokens("g.1"))])
    add(redis_client, keys.tokens("g.1"), b"1")
    client = connect_async(redis_url, blocking=True)
    reply = await aexecute(client, read_command({keys.tokens("g.1"): "0-0"}, 1))
    assert bodies(parse_streams(reply)[keys.tokens("g.1")]) == [b"1"]
    await client.aclose()


def test_a_shared_stream_is_read_from_now_on(redis_client: Redis, keys: Keys) -> None:
    send(redis_client, [broadcast(keys.control, b"old", traceparent="t", now_ms=0.0, maxlen=9)])
    reader = HintReader(redis_client, [], latest=[keys.control, "absent"])
    assert reader.read(None) == {}
    send(redis_client, [broadcast(keys.control, b"new", traceparent=None, now_ms=0.0, maxlen=9)])
    redis_client.xadd("absent", {"body": "first"})
    found = reader.read(None)
    assert (bodies(found[keys.control]), bodies(found["absent"])) == ([b"new"], [b"first"])


def test_a_reset_reader_starts_at_the_beginning_of_the_new_stream(redis_client: Redis, keys: Keys) -> None:
    stream = keys.draft("d.1")
    reader = HintReader(redis_client, [stream])
    redis_client.xadd(stream, {"body": "old"}, id="9999999999999-0")
    reader.read(None)
    redis_client.delete(stream)
    assert keep_alive(redis_client, [OwnedStream(stream)]) == [stream]
    add(redis_client, stream, b"new")
    assert reader.read(None) == {}
    reader.reset(stream)
    assert bodies(reader.read(None)[stream]) == [b"new"]


@pytest.mark.parametrize(
    ("asked", "sent"), [(0, 1), (0.2, 1), (1.4, 1), (250, 250), (5_000, MAX_BLOCK_MS), (-3, 1)]
)
def test_block_is_never_for_ever_and_never_outlives_the_socket(asked: float, sent: int) -> None:
    assert block_argument(asked) == ("BLOCK", sent)
    assert block_argument(None) == ()


# ---- owned streams ----


def test_owned_streams_are_empty_expire_and_are_renewed(redis_client: Redis, keys: Keys) -> None:
    streams = [OwnedStream(keys.draft("d.1")), OwnedStream(keys.select, group="g")]
    assert keep_alive(redis_client, streams) == [keys.draft("d.1"), keys.select]
    assert keep_alive(redis_client, streams) == []
    for stream in streams:
        assert redis_client.xlen(stream.name) == 0
        assert OWNED_STREAM_TTL_S - 2 < int(redis_client.ttl(stream.name)) <= OWNED_STREAM_TTL_S
    groups: Any = redis_client.xinfo_groups(keys.select)
    assert [group["name"] for group in groups] == [b"g"]
    assert redis_client.xinfo_groups(keys.draft("d.1")) == []


def test_a_stream_of_another_type_is_a_bug_not_an_outage(redis_client: Redis, keys: Keys) -> None:
    stream = OwnedStream(keys.select, group="g")
    redis_client.lpush(keys.verify("v"), "x")
    with pytest.raises(raised.ResponseError, match="WRONGTYPE"):
        create_group(redis_client, keys.verify("v"), "g", at="$")
    create_group(redis_client, stream.name, "g", at="$")
    create_group(redis_client, stream.name, "g", at="$")
    redis_client.set(keys.control, "x")
    with pytest.raises(raised.ResponseError, match="WRONGTYPE"):
        HintReader(redis_client, [], latest=[keys.control]).read(None)


def test_a_stream_created_by_two_at_once_is_no_error(redis_client: Redis, keys: Keys) -> None:
    stream = OwnedStream(keys.select, group="g")
    create_group(redis_client, stream.name, "g", at="$")
    _create(redis_client, stream)
    assert int(redis_client.ttl(stream.name)) > 0
    redis_client.set(keys.draft("d"), "x")
    with pytest.raises(raised.ResponseError, match="WRONGTYPE"):
        _create(redis_client, OwnedStream(keys.draft("d")))


# ---- groups of interchangeable readers ----


def test_each_entry_goes_to_one_reader_and_is_never_pending(redis_client: Redis, keys: Keys) -> None:
    readers = [GroupReader(redis_client, keys.select, "g", f"s.{i}") for i in range(2)]
    for reader in readers:
        assert reader.read(None) == {}
    add(redis_client, keys.select, b"1", b"2", b"3")
    first = readers[0].read(None, count=2)[keys.select]
    second = readers[1].read(None)[keys.select]
    assert (bodies(first), bodies(second)) == ([b"1", b"2"], [b"3"])
    pending: Any = redis_client.xpending(keys.select, "g")
    assert pending["pending"] == 0


def test_a_new_group_does_not_read_old_hints(redis_client: Redis, keys: Keys) -> None:
    redis_client.xadd(keys.select, {"body": "old"})
    reader = GroupReader(redis_client, keys.select, "g", "s.1")
    assert reader.read(None) == {}
    assert reader.read(None) == {}


def test_a_destroyed_group_is_created_again(redis_client: Redis, keys: Keys) -> None:
    reader = GroupReader(redis_client, keys.select, "g", "s.1")
    reader.read(None)
    redis_client.xgroup_destroy(keys.select, "g")
    assert reader.read(None) == {}
    add(redis_client, keys.select, b"x")
    assert bodies(reader.read(None)[keys.select]) == [b"x"]


def test_a_reader_leaves_its_group_even_if_that_is_gone(redis_client: Redis, keys: Keys) -> None:
    reader = GroupReader(redis_client, keys.select, "g", "s.1")
    reader.read(None)
    reader.read(None)
    reader.close()
    assert redis_client.xinfo_consumers(keys.select, "g") == []
    redis_client.xgroup_destroy(keys.select, "g")
    reader.close()
    redis_client.delete(keys.select)
    reader.close()
    redis_client.lpush(keys.select, "x")
    with pytest.raises(raised.ResponseError, match="WRONGTYPE"):
        reader.close()
    with pytest.raises(raised.ResponseError, match="WRONGTYPE"):
        reader.read(None)
