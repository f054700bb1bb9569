"""Each fault of the proxy, as a client of Redis meets it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import TimeoutError as NoReply

from shared.embedded_redis import EmbeddedRedis
from shared.streams import connect, hint, send
from tests.faults.proxy import Fault, Trouble, Weather, running
from tests.faults.resp import frame_end, words

FRAMES = st.recursive(
    st.one_of(
        st.binary(max_size=20).map(lambda text: b"$%d\r\n%b\r\n" % (len(text), text)),
        st.integers().map(lambda number: b":%d\r\n" % number),
        st.just(b"$-1\r\n"),
        st.just(b"*-1\r\n"),
        st.just(b"-ERR no\r\n"),
    ),
    lambda inner: st.lists(inner, max_size=4).map(lambda items: b"*%d\r\n%b" % (len(items), b"".join(items))),
)


@given(FRAMES, st.binary(max_size=5))
def test_a_frame_ends_where_it_ends_and_not_before(frame: bytes, rest: bytes) -> None:
    assert frame_end(frame + rest) == len(frame)
    assert all(frame_end(frame[:length]) is None for length in range(len(frame)))


def test_words_of_a_command() -> None:
    assert words(b"*2\r\n$4\r\nECHO\r\n$4\r\na\r\nb\r\n") == [b"ECHO", b"a\r\nb"]
    with pytest.raises(ValueError, match="no RESP2 frame"):
        frame_end(b"GET / HTTP/1.1\r\n")


@contextmanager
def spoiled(server: EmbeddedRedis, trouble: Trouble, command: bytes = b"INCRBY") -> Iterator[Redis]:
    """A client whose first ``command`` meets the trouble."""
    left = [trouble]

    def decide(words: list[bytes]) -> Trouble:
        return left.pop() if left and words[0] == command else Trouble()

    with running(str(server.socket), decide) as (proxy, url):
        client = connect(url)
        yield client
        client.close()
        assert proxy.counts[trouble.fault] == 1


@pytest.mark.parametrize(
    ("trouble", "effect"),
    [
        (Trouble(Fault.RESET), 0),
        (Trouble(Fault.CUT_COMMAND, num_bytes=9), 0),
        (Trouble(Fault.DROP_REPLY), 1),
        (Trouble(Fault.CUT_REPLY, num_bytes=2), 1),
        (Trouble(Fault.CUT_REPLY, num_bytes=500), 1),
    ],
)
def test_a_lost_command_has_no_effect_and_a_lost_reply_has(
    redis_server: EmbeddedRedis, redis_client: Redis, trouble: Trouble, effect: int
) -> None:
    with spoiled(redis_server, trouble) as client:
        with pytest.raises(LostConnection):
            client.incr("n")
        assert int(client.get("n") or 0) == effect
        assert client.incr("n") == effect + 1


def test_half_open_says_nothing_until_the_client_gives_up(
    redis_server: EmbeddedRedis, redis_client: Redis
) -> None:
    with spoiled(redis_server, Trouble(Fault.HALF_OPEN)) as client:
        started = time.monotonic()
        with pytest.raises(NoReply):
            client.incr("n")
        assert time.monotonic() - started >= 0.9
        assert client.incr("n") == 1


def test_delayed_and_doubled(redis_server: EmbeddedRedis, redis_client: Redis) -> None:
    with spoiled(redis_server, Trouble(Fault.DELAY, seconds=0.05)) as client:
        started = time.monotonic()
        assert client.incr("n") == 1
        assert time.monotonic() - started >= 0.05
    with spoiled(redis_server, Trouble(Fault.DUPLICATE)) as client:
        assert client.incr("n") == 3
        assert client.get("n") == b"3"


def test_a_held_hint_comes_behind_those_sent_later(redis_server: EmbeddedRedis, redis_client: Redis) -> None:
    redis_client.xgroup_create("s", "g", mkstream=True)
    with spoiled(redis_server, Trouble(Fault.HOLD, seconds=0.05), b"XADD") as client:
        hints = [hint("s", body, traceparent=None, now_ms=0.0) for body in (b"first", b"second")]
        assert len(send(client, hints)) == 2
        assert [fields[b"body"] for _, fields in client.xrange("s")] == [b"second"]
        entries = client.xread({"s": client.xrange("s")[-1][0]}, block=900)
        assert entries[0][1][0][1][b"body"] == b"first"


def test_weather_is_calm_until_told_and_repeats() -> None:
    commands = [[b"XADD", b"s", b"NOMKSTREAM"], [b"FCALL", b"f"], [b"GET", b"k"]] * 100
    first, again = Weather(5, 0.5), Weather(5, 0.5)
    assert {first.decide(command) for command in commands} == {Trouble()}
    first.storm()
    again.storm()
    assert [first.decide(command) for command in commands] == [again.decide(command) for command in commands]
    seen = [(command[0], again.decide(command).fault) for command in commands]
    assert {fault for _, fault in seen} == set(Fault)
    assert {name for name, fault in seen if fault is Fault.HOLD} == {b"XADD"}
    assert {name for name, fault in seen if fault is Fault.DUPLICATE} == {b"XADD", b"FCALL"}
    again.calm()
    assert again.decide(commands[0]) == Trouble()
