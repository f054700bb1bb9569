"""Composition root of the gateway: `python -m services.gateway`."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from types import FrameType

import uvicorn
import uvloop

from services.gateway.app import create_app
from services.gateway.handler import Gateway
from services.gateway.settings import GatewaySettings
from shared.errors import ConfigurationError
from shared.heartbeat import new_member
from shared.policy import load_policy
from shared.process import run
from shared.telemetry import configure
from shared.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

LAST_WORDS_S = 3  # after the drain: for the error event that ends each remaining stream


def main() -> None:
    """Serve until a signal; one line and an exit code other than 0 when that cannot start."""
    run(GatewaySettings, _serve)


def _serve(settings: GatewaySettings) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))


async def serve(settings: GatewaySettings) -> None:
    """Build everything, then answer. Raises ConfigurationError, and BusUnavailable at the start only."""
    policy = None if settings.policy_file is None else load_policy(settings.policy_file)
    tokenizer = load_tokenizer(settings.target)
    member = new_member(settings.name)
    with listen(settings.http_host, settings.http_port) as listener, configure("gateway", member) as telemetry:
        gateway = Gateway(settings, member, tokenizer, telemetry, policy)
        await gateway.start()
        try:
            # A full collection over what was built up to here takes 100 ms and more, and all streams wait for it.
            gc.freeze()
            logger.info("%s on http://%s:%d", settings.model_id, *listener.getsockname()[:2])
            await _Server(gateway, settings).serve(sockets=[listener])
        finally:
            await gateway.stop()


def _config(settings: GatewaySettings, gateway: Gateway) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(gateway),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_s + LAST_WORDS_S,
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
    """The first signal drains, a second one ends at once. No stream is cut without a word."""

    def __init__(self, gateway: Gateway, settings: GatewaySettings) -> None:
        super().__init__(_config(settings, gateway))
        self._gateway = gateway
        self._drain_s = settings.drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        deadline = asyncio.get_running_loop().call_later(self._drain_s, self._gateway.end_streams)
        try:
            await super().shutdown(sockets)
        finally:
            deadline.cancel()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn raises the signal again when it has drained; the gateway must still get to stop then
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ignore)
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        super().handle_exit(sig, frame)


def _ignore(*_: object) -> None:
    """A handler that does nothing."""


if __name__ == "__main__":
    main()
