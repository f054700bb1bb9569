"""Composition root of the gateway: `python -m services.gateway`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
import uvloop

from services.gateway.app import create_app
from services.gateway.handler import Gateway
from services.gateway.settings import GatewaySettings
from shared.errors import ConfigurationError
from shared.heartbeat import new_member
from shared.process import run
from shared.telemetry import configure
from shared.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

LAST_WORDS_S = 3  # after the drain: for the event that ends each remaining stream
DRAIN_POLL_S = 0.05


def main() -> None:
    """Serve until a signal; one line and an exit code other than 0 when that cannot start."""
    run(GatewaySettings, _serve)


def _serve(settings: GatewaySettings) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))


async def serve(settings: GatewaySettings) -> None:
    """Build everything, then answer. Raises ConfigurationError, and BusUnavailable at the start only."""
    tokenizer = load_tokenizer(settings.target)
    member = new_member(settings.name)
    with listen(settings.http_host, settings.http_port) as listener, configure("gateway", member) as telemetry:
        gateway = Gateway(settings, member, tokenizer, telemetry)
        await gateway.start()
        try:
            # A full collection over what was built up to here takes 100 ms and more, and all streams wait for it.
            gc.freeze()
            logger.info("%s on http://%s:%d", settings.model_id, *listener.getsockname()[:2])
            await _Server(gateway, settings).serve(sockets=[listener])
        finally:
            await gateway.stop()


def _config(gateway: Gateway) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(gateway),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LAST_WORDS_S,
    )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket (0: any free port). Raises ConfigurationError when the address cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


class _Server(uvicorn.Server):
    """The first signal drains, a second one ends at once. No stream is cut without a word.

    While it drains it still listens: a refusal that says where to go is better than a connection refused.
    """

    def __init__(self, gateway: Gateway, settings: GatewaySettings) -> None:
        super().__init__(_config(gateway))
        self._gateway = gateway
        self._drain_s = settings.drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        deadline = time.monotonic() + self._drain_s
        while self.server_state.tasks and time.monotonic() < deadline:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(DRAIN_POLL_S)
        self._gateway.end_streams()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's it does not raise the signal again in the end: the gateway must still get to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        yield

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(128 + number)
        self._gateway.drain()
        self.should_exit = True


if __name__ == "__main__":
    main()
