"""Fixtures: a real Redis-compatible server, one per session and emptied for each test; an OTLP receiver."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import settings
from redis import Redis

from shared.embedded_redis import EmbeddedRedis
from shared.streams import connect
from shared.topics import Keys
from tests.effort import examples
from tests.otlp import Collector, collector

# A busy machine must not fail a property: the timeout of each test is the only clock.
settings.register_profile("adaserve", deadline=None, max_examples=examples(100))
settings.load_profile("adaserve")

_cells = count()


@pytest.fixture(scope="module", autouse=True)
def _short_collections() -> Iterator[None]:
    """What lives on is not looked through again: a million objects stop a process for a second or two.

    The gateway does the same once it has started.
    """
    yield
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--redis-binary", default=None, help="server to test against, instead of the first one found")


@pytest.fixture(scope="session")
def redis_binary(request: pytest.FixtureRequest) -> str | None:
    """Server binary named on the command line, or None for the first one found."""
    binary: str | None = request.config.getoption("--redis-binary")
    return binary


@pytest.fixture(scope="session")
def redis_server(redis_binary: str | None) -> Iterator[EmbeddedRedis]:
    """The session's server."""
    with EmbeddedRedis(binary=redis_binary) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(redis_server: EmbeddedRedis) -> str:
    return redis_server.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[Redis]:
    """A command client on an empty server without functions."""
    client = connect(redis_url)
    client.flushall()
    client.function_flush()
    yield client
    client.close()


@pytest.fixture
def keys() -> Keys:
    """Names of a cell that no other test uses."""
    return Keys(f"test-{next(_cells)}")


@pytest.fixture
def otlp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Where whoever is configured from now on sends its spans."""
    with collector() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{received.endpoint}/v1/traces")
        yield received
