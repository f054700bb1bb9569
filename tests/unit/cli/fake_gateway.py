"""A gateway that answers what it is told to, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeGateway:
    """Answers every POST with `status` and `events` as SSE (or `body`, where set); keeps what it was asked.

    `prepare` may change any of it for the request it is given. `pages` answers GETs by path, anew each time.
    """

    def __init__(self) -> None:
        self.status = 200
        self.events: list[dict[str, Any]] = []
        self.body: bytes | None = None
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []  # of those, by name in lower case
        self.prepare: Callable[[dict[str, Any]], None] = lambda _: None
        self.pages: dict[str, Callable[[], str]] = {}
        self.lock = threading.Lock()  # one request at a time is prepared and answered
        self.url = ""

    def answer(self) -> bytes:
        if self.body is not None:
            return self.body
        lines = [": keep-alive\n\n", *(f"id: r:1\ndata: {json.dumps(event)}\n\n" for event in self.events)]
        return "".join([*lines, "data: [DONE]\n\n"]).encode()


@contextmanager
def running() -> Iterator[FakeGateway]:
    """On a free port."""
    gateway = FakeGateway()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with gateway.lock:
                gateway.asked.append(asked)
                gateway.headers.append({name.lower(): value for name, value in self.headers.items()})
                gateway.prepare(asked)
                status, answer = gateway.status, gateway.answer()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            page = gateway.pages.get(self.path)
            self.send_response(200 if page else 404)
            self.end_headers()
            if page:
                self.wfile.write(page().encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    gateway.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
