"""`adaserve doctor` beside a real Redis with each wrong state made there: what it says to whoever looks."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError
from typer.testing import CliRunner

from cli.main import app
from cli.rights_examination import needs
from deploy.acl.file import acl_file
from deploy.acl.users import USERS
from deploy.doctor_rights import PLACE, table
from shared.embedded_redis import EmbeddedRedis
from shared.functions import LIBRARY, VERSION, load_library
from shared.heartbeat import Heartbeat
from shared.streams import connect
from shared.tokenizer import load_tokenizer
from shared.topics import NUM_TIERS, SELECTOR_GROUP, VERIFIER_GROUP, Keys, Kind
from tests.acl.authority import OPENSSL
from tests.acl.guarded import guarded_redis
from tests.tiny_tokenizers import byte_fallback, byte_level, save

CELL = "eu-1"
KEYS = Keys(CELL)
NOBODY = "http://127.0.0.1:9"  # the gateway is another test's


@pytest.fixture(scope="module")
def server(redis_binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """With the users of `deploy.acl`, each with its name for a password, and `admin` beside them."""
    file: Path = tmp_path_factory.mktemp("acl") / "users.acl"
    hashes = {user: sha256(user.encode()).hexdigest() for user in USERS}
    file.write_text(acl_file(CELL, hashes) + "user admin on >admin ~* &* +@all\n")
    with EmbeddedRedis(binary=redis_binary, options={"aclfile": str(file)}) as running:
        yield running


@pytest.fixture
def admin(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    """A client with every right on the server that is empty but for library and users."""
    monkeypatch.setattr("cli.bus_examination.BETWEEN_S", 0.01)
    client = connect(as_user(server, "admin"))
    client.flushall()
    load_library(client)
    for words in (("ACL", "LOAD"), ("ACL", "LOG", "RESET")):
        client.execute_command(*words)
    yield client
    client.close()


def as_user(server: EmbeddedRedis, user: str, password: str | None = None) -> str:
    return server.url.replace("unix://", f"unix://{user}:{password or user}@")


@pytest.fixture
def look(server: EmbeddedRedis, admin: Redis, tmp_path: Path) -> Any:
    """What is found at Redis, looked at as a user with its password in a file; text or findings."""

    def run(user: str = "operator", password: str | None = None, *more: str, findings: bool = True) -> Any:
        secret = tmp_path / f"{user}-password"
        secret.write_text(f"{password or user}\n")
        environment = {
            "REDIS_URL": server.url,
            "ADASERVE_REDIS_USERNAME": user,
            "ADASERVE_REDIS_PASSWORD_FILE": str(secret),
            "ADASERVE_CELL": CELL,
        }
        done = CliRunner().invoke(
            app, ["doctor", "--url", NOBODY, *more, *(["--json"] if findings else [])], env=environment
        )
        return json.loads(done.output)["findings"] if findings else done

    return run


def about(found: list[Mapping[str, str]], subject: str, severity: str = "problem") -> list[str]:
    return [one["what"] for one in found if (one["subject"], one["severity"]) == (subject, severity)]


def make_groups(client: Redis) -> None:
    for stream in (KEYS.released, *(KEYS.requests(tier) for tier in range(NUM_TIERS))):
        client.xgroup_create(stream, VERIFIER_GROUP, id="0", mkstream=True)
    client.xgroup_create(KEYS.select, SELECTOR_GROUP, id="$", mkstream=True)


def test_the_table_that_is_installed_is_that_of_the_acl_file() -> None:
    assert PLACE.read_text() == table(), "run python -m deploy.doctor_rights"
    assert needs().keys() == {"gateway", "drafter", "selector", "verifier"}


def test_rights_as_in_the_acl_file_are_fine_and_the_operator_may_look(look: Any, admin: Redis) -> None:
    make_groups(admin)
    found = look()
    assert about(found, "rights", "fine") == ["gateway, drafter, selector, verifier may what they must"]
    assert about(found, "groups", "fine") == ["all streams have theirs"]
    assert about(found, "functions", "fine") == [f"version {VERSION}"]
    assert about(found, "redis", "fine")
    assert about(found, "redis", "unknown") == []


@pytest.mark.parametrize("user", sorted(needs()))
def test_each_right_that_is_taken_away_is_found(look: Any, admin: Redis, user: str) -> None:
    """One after the other: every command of the table, taken from its user."""
    rules = dict(line.split(" ", 3)[1:4:2] for line in acl_lines(admin))
    for command in needs()[user][:: 1 if user in ("drafter", "selector") else 9]:
        words = command.replace("__CELL__", CELL).split()
        without(admin, user, rules[user], words)
        denied = admin.execute_command("ACL", "DRYRUN", user, *words)
        assert denied != b"OK", command
        (told,) = [one for one in look() if one["subject"] == "rights" and one["severity"] == "problem"][:1]
        assert told["what"].startswith(f"Redis does not let the user {user}: "), told
        assert told["why"]
        assert f"ACL SETUSER {user}" in told["remedy"]


def acl_lines(admin: Redis) -> list[str]:
    return [line.decode() for line in admin.execute_command("ACL", "LIST") if not line.startswith(b"user default")]


def without(admin: Redis, user: str, rules: str, words: list[str]) -> None:
    """The user again, less one command on all keys."""
    name = (
        "|".join(words[:2]).lower() if words[0] in ("XGROUP", "XINFO", "FUNCTION", "SCRIPT") else words[0].lower()
    )
    parts = shlex.split(rules.replace("(", "'(").replace(")", ")'"))
    kept = [" ".join(word for word in part.split() if word.strip("()") != f"+{name}") for part in parts]
    kept = [part if not part.startswith("(") else f"({part.strip('()')})" for part in kept if part.strip("()")]
    admin.execute_command(
        "ACL", "SETUSER", user, "reset", "on", f">{user}", *(part for part in kept if part != "on")
    )


def test_a_user_that_is_not_there_is_named(look: Any, admin: Redis) -> None:
    admin.execute_command("ACL", "DELUSER", "selector")
    assert about(look(), "rights") == ["Redis has no user selector"]


def test_another_cell_than_that_of_the_users_is_one_finding(look: Any) -> None:
    found = look("operator", None, "--cell", "blue")
    (told,) = [one for one in found if one["subject"] == "rights"]
    assert "may touch the keys of the cell blue" in told["what"]
    assert "--cell (ADASERVE_CELL)" in told["remedy"]
    assert about(found, "redis", "unknown")  # queues and members: their finding refers to that one


def test_a_service_with_a_wrong_password_is_found(look: Any, server: EmbeddedRedis) -> None:
    with pytest.raises(Exception, match="invalid username-password"):
        connect(as_user(server, "verifier", "of yesterday")).ping()
    (told,) = about(look("admin"), "rights")
    assert told.startswith("somebody came as verifier with a wrong password, 1 time, last 0 s ago")


def test_what_a_service_was_refused_is_told(look: Any, server: EmbeddedRedis) -> None:
    client = connect(as_user(server, "drafter"))
    with pytest.raises(NoPermissionError):
        client.hgetall(KEYS.request("r"))
    client.close()
    (told,) = about(look("admin"), "rights")
    assert told.startswith("Redis has refused drafter the command hgetall, 1 time")


def test_who_is_let_in_by_nobody_hears_why(look: Any) -> None:
    done = look("operator", "wrong", findings=False)
    assert done.exit_code == 2
    assert "does not let this user in: invalid username-password pair" in done.output
    assert "what to do: ADASERVE_REDIS_USERNAME and _PASSWORD_FILE" in done.output
    assert "wrong\n" not in done.output


def test_a_user_that_may_not_look_is_told_what_it_did_not_see(look: Any) -> None:
    (told,) = about(look("exporter"), "redis", "unknown")
    assert told.startswith("not looked at, for this user may not ask: queues, groups")
    assert "ACL DRYRUN" in told
    assert about(look("exporter"), "verifiers") == []  # nobody knows


def test_on_a_server_without_users_of_services_it_depends_on_the_way_there(
    redis_client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.bus_examination.BETWEEN_S", 0.01)

    def found() -> list[Mapping[str, str]]:
        done = CliRunner().invoke(app, ["doctor", "--url", NOBODY, "--redis", redis_url, "--json"])
        told: list[Mapping[str, str]] = json.loads(done.output)["findings"]
        return told

    assert about(found(), "rights", "fine")
    monkeypatch.setattr("cli.examination.is_local", lambda url: False)
    assert about(found(), "rights", "warning") == ["services have no users of their own in Redis"]


def beating(url: str, kind: Kind, name: str, **says: Any) -> Heartbeat:
    return Heartbeat(url, KEYS, kind, name, lambda: says)


def test_a_group_that_is_missing_is_found_and_its_remedy_works(
    look: Any, server: EmbeddedRedis, admin: Redis
) -> None:
    make_groups(admin)
    with beating(as_user(server, "admin"), "verifier", "v.1"):
        admin.xgroup_destroy(KEYS.requests(2), VERIFIER_GROUP)
        (told,) = [one for one in look() if one["subject"] == "groups"]
        assert told["what"] == (
            "no group verifiers on {eu-1}:requests:2; the verifiers that live have not made it"
        )
        command = told["remedy"].rpartition(": ")[2]
        admin.execute_command(*command.split())
        assert about(look(), "groups", "fine")
        admin.delete(KEYS.select)
        assert about(look(), "groups") == []  # nobody reads it
        with beating(as_user(server, "admin"), "selector", "s.1"):
            (told,) = about(look(), "groups")
            assert told.startswith("no group selectors on {eu-1}:select")


def test_a_queue_that_nobody_has_ever_read_says_so(look: Any, admin: Redis) -> None:
    assert about(look(), "groups") == []  # a new cell
    admin.xadd(KEYS.requests(1), {"body": "r"})
    (told,) = [one for one in look() if one["subject"] == "groups"]
    assert told["what"] == "no group verifiers on {eu-1}:requests:1"
    assert told["remedy"].startswith("start a verifier")


def test_a_drafter_with_another_vocabulary_is_named(
    look: Any, server: EmbeddedRedis, admin: Redis, tmp_path: Path
) -> None:
    maps = [
        load_tokenizer(str(save(tokenizer, tmp_path / name))).token_map_digest
        for name, tokenizer in (("target", byte_level()), ("draft", byte_fallback()))
    ]
    with ExitStack() as stack:
        stack.enter_context(beating(as_user(server, "admin"), "verifier", "v.1", token_map=maps[0]))
        stack.enter_context(beating(as_user(server, "admin"), "drafter", "d.1", token_map=maps[1]))
        (told,) = about(look(), "models")
        assert told == "the vocabulary of d.1 is no verifier's: the same ids are other tokens"
        stack.enter_context(beating(as_user(server, "admin"), "drafter", "d.2", token_map=maps[0]))
        assert about(look(), "models") == []
        assert len(about(look(), "models", "warning")) == 1


def test_no_verifier_is_a_problem_until_one_lives(look: Any, server: EmbeddedRedis) -> None:
    assert about(look(), "verifiers") == ["no verifier lives"]
    with beating(as_user(server, "verifier"), "verifier", "v.1"):
        assert about(look(), "verifiers") == []


def test_a_clock_that_is_wrong_is_found_by_its_beats(
    look: Any, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with beating(as_user(server, "verifier"), "verifier", "v.1"):
        assert about(look(), "clocks", "warning") == []
        assert about(look(), "clocks", "fine") == ["1 member and Redis agree within 2 s"]
    monkeypatch.setattr("shared.heartbeat.time.time", lambda real=time.time: real() - 40)
    with beating(as_user(server, "verifier"), "verifier", "v.2"):
        (told,) = about(look(), "clocks", "warning")
    assert told in ("the clock of v.2 is 40 s behind Redis'", "the clock of v.2 is 39 s behind Redis'")


def test_functions_of_an_older_release_are_told_beside_a_gateway(
    look: Any, server: EmbeddedRedis, admin: Redis
) -> None:
    older = LIBRARY.replace(f"local VERSION = {VERSION}", f"local VERSION = {VERSION - 1}")
    admin.function_load(older, replace=True)
    with beating(as_user(server, "admin"), "gateway", "g.1"):
        (told,) = about(look(), "functions", "warning")
    assert told == f"version {VERSION - 1}, this command is of a release with version {VERSION}"


@pytest.mark.skipif(OPENSSL is None, reason="no openssl on the PATH to make certificates")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the TLS front's own socket
def test_over_tls_a_ca_that_is_not_named_is_what_is_wrong(
    redis_binary: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.bus_examination.BETWEEN_S", 0.01)
    with guarded_redis(tmp_path, redis_binary) as redis:
        operator = {f"ADASERVE_{name}": value for name, value in redis.variables("operator").items()}
        environment = {"REDIS_URL": redis.url, **operator}

        def run(**other: str) -> str:
            return str(CliRunner().invoke(app, ["doctor", "--url", NOBODY], env={**environment, **other}).output)

        assert "gateway, drafter, selector, verifier may what they must" in run()
        stranger = run(ADASERVE_REDIS_CA_FILE="")
        assert "does not answer: " in stranger
        assert "what to do: ADASERVE_REDIS_CA_FILE: name the CA of Redis' certificate" in stranger
        plain = run(REDIS_URL=redis.url.replace("rediss", "redis"), ADASERVE_REDIS_CA_FILE="")
        assert "the URL begins with rediss://" in plain
        assert "a CA file needs a REDIS_URL that starts with rediss://" in run(REDIS_URL="redis://127.0.0.1:1")
