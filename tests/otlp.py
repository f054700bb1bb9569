"""OTLP collectors in this process, over HTTP and gRPC: what they are sent is kept, for tests of exporting."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One exported span; ids are hex, `parent_id` is empty for a root, links are (trace id, span id)."""

    service: str
    instance: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    kind: int
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]


class Collector:
    """What has arrived so far. `endpoint` is the value for OTEL_EXPORTER_OTLP_ENDPOINT."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._spans: list[ReceivedSpan] = []
        self._metrics: set[str] = set()
        self.bodies: list[bytes] = []  # of every export, as they came
        self.endpoint = ""

    @property
    def spans(self) -> list[ReceivedSpan]:
        with self._changed:
            return list(self._spans)

    @property
    def metrics(self) -> set[str]:
        with self._changed:
            return set(self._metrics)

    def wait_for(
        self, condition: Callable[[list[ReceivedSpan]], bool], timeout_s: float = 20
    ) -> list[ReceivedSpan]:
        """The spans as soon as `condition` holds of them; AssertionError listing their names after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not condition(self._spans):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise AssertionError(f"not received in time; have {sorted(span.name for span in self._spans)}")
                self._changed.wait(remaining)
            return list(self._spans)

    def accept(self, path: str, body: bytes) -> None:
        """One export request, by the path of its signal."""
        with self._changed:
            self.bodies.append(body)
            if path.endswith("/v1/traces"):
                self._spans += _spans_in(ExportTraceServiceRequest.FromString(body))
            elif path.endswith("/v1/metrics"):
                self._metrics |= _metrics_in(ExportMetricsServiceRequest.FromString(body))
            self._changed.notify_all()


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None


def _spans_in(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for resource in request.resource_spans:
        about = {pair.key: _value(pair.value) for pair in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    service=about.get("service.name", ""),
                    instance=about.get("service.instance.id", ""),
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    kind=span.kind,
                    attributes={pair.key: _value(pair.value) for pair in span.attributes},
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                )


def _metrics_in(request: ExportMetricsServiceRequest) -> set[str]:
    scopes = (scope for resource in request.resource_metrics for scope in resource.scope_metrics)
    return {metric.name for scope in scopes for metric in scope.metrics}


@contextmanager
def collector() -> Iterator[Collector]:
    """A running collector on a free port of the loopback interface."""
    received = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.accept(
                self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
            )
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def grpc_collector() -> Iterator[Collector]:
    """The same for OTLP/gRPC, a real grpcio server."""
    received = Collector()

    def taking(path: str, answer: bytes = b"") -> grpc.RpcMethodHandler:
        def take(body: bytes, _: grpc.ServicerContext) -> bytes:
            received.accept(path, body)
            return answer  # an empty response message

        return grpc.unary_unary_rpc_method_handler(take)

    server = grpc.server(ThreadPoolExecutor(2))
    for signal, path in (("trace", "/v1/traces"), ("metrics", "/v1/metrics")):
        service = f"opentelemetry.proto.collector.{signal}.v1.{signal.capitalize()}Service"
        handlers = {"Export": taking(path)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    received.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield received
    finally:
        server.stop(None).wait()
