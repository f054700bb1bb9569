"""A client that keeps its connection: what goes wrong on it, and that nobody gets another's reply."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import DataError, ResponseError
from redis.exceptions import TimeoutError as TooLate

from shared import client as module
from shared.client import Client
from shared.streams import connect, send


@pytest.fixture
def client(redis_client: Redis, redis_url: str) -> Iterator[Client]:
    """One whose connection the server knows by its name."""
    made = connect(redis_url)
    assert isinstance(made, Client)
    made.client_setname("kept")
    yield made
    made.close()


def disconnect(redis_client: Redis) -> None:
    """The server ends the kept connection."""
    (mine,) = [about for about in redis_client.client_list() if about["name"] == "kept"]
    redis_client.client_kill_filter(_id=mine["id"])


def test_all_commands_leave_on_one_connection(client: Client) -> None:
    assert client.exchange([("CLIENT", "GETNAME")]) == [b"kept"]
    assert client.client_getname() == "kept"


def test_replies_are_as_redis_py_makes_them(client: Client) -> None:
    assert client.set("a", 1) is True
    assert client.exchange([("SET", "b", 2), ("GET", "a"), ("EXPIRE", "none", 5)]) == [True, b"1", False]
    assert client.exchange([]) == []


def test_an_error_is_the_reply_to_its_command_alone(client: Client) -> None:
    refused, read = client.exchange([("INCRBY", "a", "x"), ("GET", "a")]) or ()
    assert isinstance(refused, ResponseError)
    assert read is None
    with pytest.raises(ResponseError):
        client.incrby("a", "x")  # type: ignore[arg-type]
    assert client.client_getname() == "kept"


def test_of_commands_that_cannot_be_written_none_is(client: Client) -> None:
    with pytest.raises(TypeError):
        client.exchange([("SET", "a", "1"), ("SET", "a", object())])
    with pytest.raises(DataError):
        client.execute_command("SET", "a", object())
    assert client.get("a") is None


def test_a_large_command_arrives_whole(client: Client) -> None:
    body = bytes(range(256)) * 4096
    assert client.exchange([("SET", "a", body), ("GET", "a")]) == [True, body]


def test_a_thread_that_comes_meanwhile_does_not_wait(client: Client, redis_client: Redis) -> None:
    popped = list[object]()
    blocked = threading.Thread(target=lambda: popped.append(client.blpop(["list"], 1.5)))
    blocked.start()
    while not redis_client.info("clients")["blocked_clients"]:
        pass
    assert client.exchange([("PING",)]) is None
    assert client.client_getname() is None, "a connection of the pool"
    assert send(client, [("RPUSH", "list", "x")]) == [1]
    blocked.join()
    assert popped == [(b"list", b"x")]
    assert client.client_getname() == "kept"


def test_a_connection_that_ended_while_nobody_used_it_is_replaced(
    client: Client, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", -1.0)
    disconnect(redis_client)
    assert client.exchange([("CLIENT", "GETNAME")]) == [None]
    assert client.ping() is True


def test_without_a_look_one_command_fails_and_is_not_repeated(
    client: Client, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", math.inf)
    disconnect(redis_client)
    with pytest.raises(LostConnection):
        client.exchange([("INCR", "n")])
    assert redis_client.get("n") is None
    assert client.exchange([("INCR", "n")]) == [1]


def test_a_reply_that_nobody_has_waited_for_is_nobodys(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(client, "parse_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.exchange([("ECHO", "old")])
    assert client.exchange([("ECHO", "new")]) == [b"new"]


def test_bytes_out_of_nowhere_end_the_connection(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", -1.0)
    client._kept.send_packed_command(client._kept.pack_command("ECHO", "stray"))
    while not client._kept.can_read():
        pass
    assert client.exchange([("ECHO", "mine")]) == [b"mine"]


def test_a_client_may_be_closed_twice_and_used_again(client: Client) -> None:
    client.close()
    client.close()
    assert client.ping() is True


def test_a_raw_reply_is_as_the_server_wrote_it(client: Client) -> None:
    client.xadd("s", {"a": "1"}, id="1-0")
    assert client.raw(("XREAD", "STREAMS", "s", "0-0")) == [[b"s", [[b"1-0", [b"a", b"1"]]]]]
    assert client.raw(("XREAD", "STREAMS", "s", "1-0")) is None
    with pytest.raises(ResponseError):
        client.raw(("XREAD", "STREAMS", "s", "odd"))
    assert client.client_getname() == "kept"


def test_raw_replies_come_by_the_pool_while_another_thread_waits(client: Client, redis_client: Redis) -> None:
    blocked = threading.Thread(target=lambda: client.blpop(["list"], 1.5))
    blocked.start()
    while not redis_client.info("clients")["blocked_clients"]:
        pass
    assert client.raw(("CLIENT", "GETNAME")) is None
    with pytest.raises(ResponseError):
        client.raw(("INCRBY", "a", "x"))
    redis_client.rpush("list", "x")
    blocked.join()


def test_what_is_done_meanwhile_is_done_once_the_commands_have_left(client: Client, redis_client: Redis) -> None:
    def meanwhile() -> None:
        while redis_client.get("a") is None:
            pass

    assert client.exchange([("SET", "a", "1")], meanwhile) == [True]


def test_what_goes_wrong_meanwhile_leaves_no_reply_behind(client: Client) -> None:
    with pytest.raises(ZeroDivisionError):
        client.exchange([("ECHO", "old")], lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert client.exchange([("ECHO", "new")]) == [b"new"]


def test_a_server_that_says_nothing_is_too_late(client: Client) -> None:
    client.ping()
    assert client._line is not None
    client._line._socket.settimeout(0.01)
    with pytest.raises(TooLate):
        client.raw(("BLPOP", "none", 1))
    assert client.ping() is True
