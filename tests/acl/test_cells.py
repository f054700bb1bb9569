"""Every cell of the table, user x class of keys x command, as the real server judges it: also what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from deploy.acl.commands import FUNCTIONS
from deploy.acl.file import acl_file, allowed
from deploy.acl.key_classes import patterns
from deploy.acl.users import USERS
from shared.embedded_redis import EmbeddedRedis
from shared.errors import BusUnavailable
from shared.functions import LIBRARY, load_library
from shared.scripts import call, overdue, refill
from shared.streams import connect
from shared.topics import Keys
from tests.acl.invocations import INVOCATIONS, invocation

CELL = "eu-1"
WITHOUT_LOGIN = {"auth", "hello", "quit", "reset"}  # Redis answers these to anybody
CLASSES = patterns(CELL)
READ_KEYS = f"redis.call('HGETALL', '{{{CELL}}}:api_keys')\n"


def hashes(of: str = "password of ") -> dict[str, str]:
    return {user: sha256(f"{of}{user}".encode()).hexdigest() for user in USERS}


@pytest.fixture(scope="module")
def judge(redis_binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A client with every right on a server with the users and the library, for none of them is an admin."""
    file: Path = tmp_path_factory.mktemp("acl") / "users.acl"
    file.write_text(acl_file(CELL, hashes()) + "user judge on nopass ~* &* +@all\n")
    with EmbeddedRedis(binary=redis_binary, options={"aclfile": str(file)}) as server:
        client = Redis.from_url(server.url, username="judge", password="any", protocol=2)
        client.function_load(LIBRARY)
        yield client
        client.close()


def verdicts(judge: Redis, user: str, calls: list[list[str]]) -> list[str]:
    """Whether ("OK"), or why not, of each call."""
    pipeline = judge.pipeline(transaction=False)
    for words in calls:
        pipeline.execute_command("ACL", "DRYRUN", user, *words)
    return [reply.decode() if isinstance(reply, bytes) else str(reply) for reply in pipeline.execute(False)]


def example(pattern: str) -> str:
    """A key that a pattern matches."""
    return pattern.replace("?", "3").replace("*", "some.1a2b")


@pytest.mark.parametrize("user", USERS)
def test_every_cell_is_as_declared(judge: Redis, user: str) -> None:
    declared = dict(allowed(USERS[user]))
    of_functions = frozenset().union(*(of for name, of in declared.items() if name.startswith("fcall|")))
    declared |= {name: of_functions for name in INVOCATIONS if name.startswith("fcall|")}  # as of one command
    cells = [(command, name) for command in INVOCATIONS for name in CLASSES]
    found = verdicts(judge, user, [invocation(command, example(CLASSES[name])) for command, name in cells])
    wrong = [
        (command, name, verdict)
        for (command, name), verdict in zip(cells, found, strict=True)
        if (verdict == "OK") != (name in declared.get(command, ()))
    ]
    assert not wrong


@pytest.mark.parametrize("user", USERS)
def test_nothing_of_another_cell(judge: Redis, user: str) -> None:
    calls = [
        invocation(command, example(pattern))
        for command in INVOCATIONS
        for pattern in patterns(f"{CELL}x").values()
    ]
    calls += [invocation(command, "somebody elses") for command in INVOCATIONS]
    assert "OK" not in verdicts(judge, user, calls)


@pytest.mark.parametrize("user", USERS)
def test_no_other_command_of_the_server(judge: Redis, user: str) -> None:
    """Whatever it has: CONFIG, KEYS, FLUSHALL, EVAL, FUNCTION DELETE, ACL SETUSER, SHUTDOWN, ..."""
    declared = set(allowed(USERS[user])) | set(USERS[user].keyless.split())
    declared |= {"fcall"} if USERS[user].functions else set()
    calls = {name: words for name, words in every_command(judge).items() if name not in declared | WITHOUT_LOGIN}
    assert len(calls) > 250
    found = dict(zip(calls, verdicts(judge, user, list(calls.values())), strict=True))
    assert not {name: verdict for name, verdict in found.items() if "no permissions to run" not in verdict}


def every_command(judge: Redis) -> dict[str, list[str]]:
    """All that the server knows, subcommands apart, with as many words as it asks for."""
    found: dict[str, list[str]] = {}
    with judge.client() as one:  # its connection, for the client leaves the subcommands out
        one.connection.send_command("COMMAND")
        told = one.connection.read_response()
    for about in told:
        for entry in about[9] or [about]:
            name, arity = entry[0].decode(), abs(entry[1])
            words = name.split("|")
            found[name] = words + ["1"] * (arity - len(words))
    return found


@pytest.mark.parametrize("user", USERS)
def test_what_has_no_key_is_allowed(judge: Redis, user: str) -> None:
    known = every_command(judge)
    assert set(verdicts(judge, user, [known[name] for name in USERS[user].keyless.split()])) == {"OK"}


@pytest.mark.parametrize("user", USERS)
def test_functions_are_for_those_who_have_some(judge: Redis, user: str) -> None:
    (verdict,) = verdicts(judge, user, [["fcall", "adaserve_version", "0"]])
    assert (verdict == "OK") == bool(USERS[user].functions)


def test_the_library_has_no_other_functions(judge: Redis) -> None:
    (library,) = judge.function_list()
    held: Any = dict(zip(library[::2], library[1::2], strict=True))[b"functions"]
    names = {dict(zip(one[::2], one[1::2], strict=True))[b"name"].decode() for one in held}
    assert names == {f"adaserve_{name}" for name in FUNCTIONS}


def test_a_function_is_no_more_than_its_caller(judge: Redis) -> None:
    """What the library should never hold, loaded by whoever may: the command inside is refused all the same."""
    changed = LIBRARY.replace("local function refill(_, args)\n", "local function refill(_, args)\n  " + READ_KEYS)
    assert changed != LIBRARY
    judge.function_load(changed, replace=True)
    try:
        with (
            client_of(judge, "verifier") as verifier,
            pytest.raises(ResponseError, match=r"ACL failure in script|can't access"),
        ):
            verifier.fcall("adaserve_refill", 1, f"{{{CELL}}}:requests:0", f"{{{CELL}}}:", "0")
    finally:
        judge.function_load(LIBRARY, replace=True)


def client_of(judge: Redis, user: str, password: str | None = None) -> Redis:
    """A user's own client of the same server."""
    socket = judge.connection_pool.connection_kwargs["path"]
    return connect(f"unix://{user}:{quote(password or f'password of {user}')}@{socket}")


def test_nobody_comes_in_without_the_password(judge: Redis) -> None:
    socket = judge.connection_pool.connection_kwargs["path"]
    with connect(f"unix://{socket}") as nobody, pytest.raises(AuthenticationError):
        nobody.ping()
    with client_of(judge, "gateway", "password of verifier") as other, pytest.raises(AuthenticationError):
        other.ping()


@pytest.mark.parametrize("user", USERS)
def test_only_a_gateway_loads_the_library(judge: Redis, user: str) -> None:
    with client_of(judge, user) as client:
        if user == "gateway":
            load_library(client)
            client.function_load(LIBRARY, replace=True)
            return
        with pytest.raises(NoPermissionError):
            client.function_load(LIBRARY, replace=True)


def test_the_others_wait_for_a_gateway(judge: Redis) -> None:
    judge.function_flush()
    keys = Keys(CELL)
    with client_of(judge, "verifier") as verifier, client_of(judge, "gateway") as gateway:
        with pytest.raises(BusUnavailable, match="a gateway has to load it"):
            call(verifier, refill(keys, 0))
        call(gateway, overdue(keys))
        call(verifier, refill(keys, 0))
