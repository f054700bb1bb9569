"""`/live`, `/ready` and `/metrics` of a worker, from a thread of its own.

Probes answer even while the worker is inside a long forward pass: they ask two cheap callables. Liveness must
never ask Redis: a bus that is away is no reason to restart anything.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from shared.errors import ConfigurationError

logger = logging.getLogger(__name__)

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
CLIENT_TIMEOUT_S = 5  # a client that stops sending must not hold a thread


def _nothing() -> bytes:
    return b""


class HealthServer:
    """Serves the three paths on `host:port` (0: any free port, then in `port`) until `stop`.

    `ready` and `live` answer 200 or 503; one that raises counts as False. `metrics` gives the body of `/metrics`.
    Raises ConfigurationError when the address cannot be bound.
    """

    def __init__(
        self,
        host: str,
        port: int,
        ready: Callable[[], bool],
        live: Callable[[], bool],
        metrics: Callable[[], bytes] = _nothing,
    ) -> None:
        self._probes = {"/ready": ready, "/live": live}
        self._metrics = metrics
        try:
            self._server = _Server((host, port), self._handler())
        except OSError as error:
            raise ConfigurationError(f"health server cannot listen on {host}:{port}: {error.strerror}") from None
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="health", daemon=True
        )

    def start(self) -> Self:
        """Serve from now on."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Answer what is open, then free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body of a GET."""
        if path == "/metrics":
            return 200, PROMETHEUS_TEXT, self._metrics()
        probe = self._probes.get(path)
        if probe is None:
            return 404, "text/plain", b"not found\n"
        return (200, "text/plain", b"ok\n") if _holds(path, probe) else (503, "text/plain", b"no\n")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            timeout = CLIENT_TIMEOUT_S

            def do_GET(self) -> None:
                status, content_type, body = answer(self.path.partition("?")[0])
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Probes come every second; they are not news."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up early is its own affair; anything of ours is logged without a stack on stderr."""
        logger.debug("health request failed: %r", sys.exception())


def _holds(path: str, probe: Callable[[], bool]) -> bool:
    try:
        return probe()
    except Exception:
        logger.exception("the check behind %s failed", path)
        return False
