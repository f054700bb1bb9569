"""`adaserve why` on the running system: a target that is feasible at the door, and missed for a known reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.local import LocalStack
from cli.main import app
from tests.e2e.test_modes import mode
from tests.e2e.test_ring import ask


@pytest.fixture(autouse=True)
def automatic(stack: LocalStack) -> Iterator[None]:
    yield
    mode(stack, "auto", "--class", "custom")


def why(stack: LocalStack, answer: dict[str, Any]) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["why", answer["id"], "--url", stack.url, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.output)
    return found


def test_a_request_that_was_kept_from_speculation_is_told_so(stack: LocalStack) -> None:
    mode(stack, "full_verification", "--class", "custom")
    target_ms = stack.zero_load_ms() / 2
    answer = stack.complete(ask(0, max_tokens=64, adaserve={"slo": {"tpot_ms": target_ms}}))
    found = why(stack, answer)
    assert (found["verdict"], found["is_partial"]) == ("missed", False)
    assert found["timing"]["tpot_ms"] == answer["metrics"]["slo"]["tpot_ms"]
    assert found["steps"]["bare_reasons"] == {"first_step": 1, "operator": 63}
    told = "an operator's order (63)"
    assert any(told in sentence for sentence in found["explanation"])
    parts = found["causes"]["tpot"]
    assert {"machine", "commit"} <= {part["cause"] for part in parts}
    assert "ring" not in {part["cause"] for part in parts}
    excess = found["timing"]["tpot_ms"] - target_ms
    assert sum(part["share_ms"] for part in parts) == pytest.approx(excess, abs=0.01)
    assert sum(part["share_ms"] for part in parts if part["cause"] == "unexplained") < 0.2 * excess


def test_a_request_that_speculated_and_met_its_target_is_told_its_room(stack: LocalStack) -> None:
    found = why(stack, stack.complete(ask(1, max_tokens=64, adaserve={"slo": {"tpot_ms": 500}})))
    assert found["verdict"] == "met"
    assert found["steps"]["speculative"] > 0
    assert found["speculation"]["drafted_tokens"] > 0
    assert any("to spare" in sentence for sentence in found["explanation"])
