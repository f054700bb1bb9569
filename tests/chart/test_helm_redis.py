"""The chart's own Redis, as its render says, on a real server: who may come in, and what it is told to keep."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from shared.embedded_redis import find_binary
from tests.chart.renders import Document, Render, renders

USERS = ("gateway", "drafter", "selector", "verifier", "operator", "exporter")
ABSENT = "operator"  # a Secret of somebody's own need not have it


def minimal() -> Render:
    return next(render for render in renders() if render.name == "minimal-cpu")


def stateful_set() -> Document:
    (found,) = minimal().of_kind("StatefulSet")
    return found["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pod would have mounted, and what its init container makes of it, below one folder."""
    root = tmp_path_factory.mktemp("redis")
    for folder in ("etc/redis", "run/redis", "run/secrets/adaserve/passwords", "data"):
        (root / folder).mkdir(parents=True)
    (configuration,) = [
        each for each in minimal().of_kind("ConfigMap") if each["metadata"]["name"].endswith("-redis")
    ]
    for name, text in configuration["data"].items():
        (root / "etc/redis" / name).write_text(moved(text, root))
    for user in set(USERS) - {ABSENT}:
        (root / f"run/secrets/adaserve/passwords/{user}-password").write_text(f"of {user}\n")
    (init,) = stateful_set()["initContainers"]
    command = [moved(word, root) for word in init["command"]]
    subprocess.run(command, check=True, timeout=10, env={"PATH": "/usr/bin:/bin"})
    return root


def moved(text: str, root: Path) -> str:
    """The paths of the pod, below a folder."""
    for path in ("/etc/redis", "/run/redis", "/run/secrets", "/data"):
        text = text.replace(path, f"{root}{path}")
    return text


@pytest.fixture(scope="module")
def socket(files: Path, redis_binary: str | None) -> Iterator[Path]:
    """Of the server with that configuration."""
    path = files / "s"
    (container,) = stateful_set()["containers"]
    assert container["command"][1:] == ["/etc/redis/redis.conf"]
    command = [redis_binary or find_binary(), str(files / "etc/redis/redis.conf"), "--unixsocket", str(path)]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(500):
                if path.exists():
                    break
                assert server.poll() is None
                time.sleep(0.01)
            yield path
        finally:
            server.terminate()


def client(socket: Path, user: str | None = None, password: str | None = None) -> Redis:
    once = Retry(NoBackoff(), 0)  # a refusal is not asked for again
    return Redis(unix_socket_path=str(socket), username=user, password=password, retry=once)


@pytest.mark.parametrize("user", sorted(set(USERS) - {ABSENT}))
def test_a_user_comes_in_with_its_own_password_only(user: str, socket: Path) -> None:
    with client(socket, user, f"of {user}") as redis, pytest.raises(RedisError, match="no permissions"):
        redis.config_get("*")
    for password in ("of somebody", "", f"of {user}\n"):
        with client(socket, user, password) as redis, pytest.raises(AuthenticationError):
            redis.ping()


def test_nobody_comes_in_without_a_name_or_without_a_password_that_was_given(socket: Path) -> None:
    with client(socket) as redis, pytest.raises(AuthenticationError):
        redis.ping()
    for password in ("", "of operator", f"__HASH_{ABSENT}__"):
        with client(socket, ABSENT, password) as redis, pytest.raises(AuthenticationError):
            redis.ping()


def test_the_probes_user_may_ask_and_the_server_is_as_it_should_be(socket: Path) -> None:
    (container,) = stateful_set()["containers"]
    assert "--user exporter" in container["readinessProbe"]["exec"]["command"][-1]
    with client(socket, "exporter", "of exporter") as redis:
        assert redis.ping()
        told = redis.info()
    assert told["maxmemory_policy"] == "noeviction"
    assert told["maxmemory"] == 704 << 20
    assert told["aof_enabled"] == 1


def test_a_service_reaches_the_keys_of_its_cell_only(socket: Path) -> None:
    with client(socket, "selector", "of selector") as redis:
        assert redis.sadd("{default}:selectors", "me") == 1
        for key in ("{other}:selectors", "{default}:verifiers"):
            with pytest.raises(RedisError, match="permission"):
                redis.sadd(key, "me")
