"""What many runs share, and how a run gets its own clock, chance and wires."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from redis import Redis
from redis.connection import ConnectionPool, UnixDomainSocketConnection

from shared import functions
from shared.embedded_redis import EmbeddedRedis
from shared.telemetry import Telemetry, configure
from shared.tokenizer import Tokenizer, load_tokenizer
from tests.faults.actors import Nerve
from tests.faults.dice import Secrets
from tests.faults.wire import AsyncWire, Line, Wire
from tests.faults.world import World
from tests.tiny_tokenizers import byte_level, save


@dataclass
class Lab:
    """What many runs share: the server, tokenizer, telemetry, and the script library under test."""

    pool: ConnectionPool
    line: Line
    telemetry: Telemetry
    tokenizer: Tokenizer
    # The scripts under test; few clients would never wait behind a longer stream.
    library: str = functions.LIBRARY.replace("local WINDOW = 8\n", "local WINDOW = 1\n")

    def reset(self) -> None:
        """An empty server that holds the library: a run must not depend on the one before."""
        client = Redis(connection_pool=self.pool)
        client.flushall()
        client.function_load(self.library, replace=True)


@contextmanager
def laboratory() -> Iterator[Lab]:
    """An own server."""
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis())
        telemetry = stack.enter_context(configure("verifier", "simulation"))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        tokenizer = load_tokenizer(str(save(byte_level(), Path(folder))))
        pool = ConnectionPool(connection_class=UnixDomainSocketConnection, path=str(server.socket), protocol=2)
        stack.callback(pool.disconnect)
        yield Lab(pool, Line(pool), telemetry, tokenizer)


@contextmanager
def injected(lab: Lab, world: World, mishaps: list[str]) -> Iterator[None]:
    """The run's clock, chance and wires in place of the real ones; ``mishaps`` hears of tasks that die."""
    secrets = Secrets(world.dice.random)

    def fail(_: object) -> None:
        mishaps.append("a vital task has ended")

    with ExitStack() as stack:
        for name, value in {
            "shared.heartbeat.connect": lambda url: Wire(lab.pool, world, Nerve()),
            "services.gateway.bus.connect_async": lambda url: AsyncWire(world),
            "services.gateway.streams.connect_async": lambda url, blocking: AsyncWire(world),
            "services.gateway.bus.time": SimpleNamespace(monotonic=world.clock_s, time=world.clock_s),
            "services.gateway.bus.secrets": secrets,
            "services.gateway.tasks.signal": SimpleNamespace(raise_signal=fail),
            "shared.scripts.secrets": secrets,
            "shared.functions._LOAD": ("FUNCTION", "LOAD", "REPLACE", lab.library),
        }.items():
            stack.enter_context(patch(name, value))
        yield
