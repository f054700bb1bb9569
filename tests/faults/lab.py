"""What many runs share, and how a run gets its own clock, chance and wires."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from shared import functions
from shared.embedded_redis import EmbeddedRedis
from shared.telemetry import Telemetry
from shared.tokenizer import Tokenizer, load_tokenizer
from tests.faults.actors import Nerve
from tests.faults.dice import Secrets
from tests.faults.line import Line
from tests.faults.silence import Silence
from tests.faults.wire import AsyncWire, Wire
from tests.faults.world import World
from tests.tiny_tokenizers import byte_level, save


@dataclass
class Lab:
    """What many runs share: the server, tokenizer, telemetry, and the script library under test."""

    socket: Path
    line: Line
    telemetry: Telemetry
    tokenizer: Tokenizer
    # The scripts under test; few clients would never wait behind a longer stream.
    library: str = functions.LIBRARY.replace("local WINDOW = 8\n", "local WINDOW = 1\n")

    def reset(self) -> None:
        """An empty server that holds the library: a run must not depend on the one before."""
        self.line.run(("FLUSHALL",), {})
        self.line.run(("FUNCTION LOAD", "REPLACE", self.library), {})


@contextmanager
def laboratory() -> Iterator[Lab]:
    """An own server."""
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        tokenizer = load_tokenizer(str(save(byte_level(), Path(folder))))
        line = stack.enter_context(closing(Line(server.socket)))
        yield Lab(server.socket, line, Silence(), tokenizer)


@contextmanager
def injected(lab: Lab, world: World, mishaps: list[str]) -> Iterator[None]:
    """The run's clock, chance and wires in place of the real ones; ``mishaps`` hears of tasks that die."""
    secrets = Secrets(world.dice.random)

    def fail(_: object) -> None:
        mishaps.append("a vital task has ended")

    with ExitStack() as stack:
        for name, value in {
            "shared.heartbeat.connect": lambda url: Wire(world, Nerve()),
            # Simulated gateways have their own names for an address.
            "services.gateway.bus.connect_async": lambda url: AsyncWire(world, world.gateways[url]),
            "services.gateway.streams.connect_async": lambda url, blocking: AsyncWire(world, world.gateways[url]),
            "services.gateway.bus.time": SimpleNamespace(monotonic=world.clock_s, time=world.clock_s),
            "services.gateway.bus.secrets": secrets,
            "services.gateway.admission.secrets": secrets,
            "services.gateway.tasks.signal": SimpleNamespace(raise_signal=fail),
            "shared.scripts.secrets": secrets,
            "shared.functions._LOAD": ("FUNCTION", "LOAD", "REPLACE", lab.library),
        }.items():
            stack.enter_context(patch(name, value))
        yield
