"""One real stack for the session: embedded pair, float64 target for exact tokens, traces exported."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.local import LocalStack, local_stack
from tests.otlp import Collector, collector


@pytest.fixture(scope="session")
def traces() -> Iterator[Collector]:
    with collector() as received:
        yield received


@pytest.fixture(scope="session")
def stack(traces: Collector) -> Iterator[LocalStack]:
    exported = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{traces.endpoint}/v1/traces",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    # The paper's policy speculates whatever it costs; ours may rightly decode plainly on a busy machine. The tests
    # that start stacks of their own meet it: flagship, up, twin.
    # A verifier that is killed may take longer to be back on such a machine than requests wait by themselves.
    settings = {
        "verifier": {"DTYPE": "float64"},
        "selector": {"POLICY": "paper"},
        "gateway": {"VERIFIER_PATIENCE_S": "150"},
    }
    with local_stack(settings, environment=exported) as running:
        yield running
