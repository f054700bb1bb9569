"""What vLLM's and AIPerf's readers look for in a reply's `metrics`, under these names and from a real reply."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from bench.local import LocalStack
from tests.conformance.described import Described, events

TOP = {
    "time_to_first_token_ms",
    "generation_time_ms",
    "queue_time_ms",
    "mean_itl_ms",
    "tokens_per_second",
    "speculative_decoding",
    "acceptance",
    "slo",
}
SPECULATION = {
    "mean_acceptance_length",
    "draft_acceptance_rate",
    "num_draft_tokens",
    "num_accepted_draft_tokens",
    "num_spec_steps",
}
SLO = {"class", "tpot_target_ms", "tpot_raised_from_ms", "ttft_target_ms", "tpot_ms", "met"}
CHAT = {"messages": [{"role": "user", "content": "def main():"}]}
TEXT = {"prompt": "import os\nimport sys\n"}


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)])
@pytest.mark.parametrize("stream", [False, True])
def test_metrics_have_the_names_that_their_readers_know(
    stack: LocalStack, path: str, body: dict[str, Any], stream: bool
) -> None:
    asked = {**body, "max_tokens": 32, "ignore_eos": True, "seed": 3, "adaserve": {"slo": {"tpot_ms": 60_000}}}
    asked |= {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = httpx.post(f"{stack.url}{path}", json=asked, timeout=60)
    Described(stack.get("/openapi.json")).check_answer("post", path, answer)
    told = json.loads(list(events(answer.text))[-2]["data"]) if stream else answer.json()
    check(told["metrics"], num_tokens=told["usage"]["completion_tokens"])


def check(metrics: dict[str, Any], *, num_tokens: int) -> None:
    speculation, slo = metrics["speculative_decoding"], metrics["slo"]
    assert (metrics.keys(), speculation.keys(), slo.keys()) == (TOP, SPECULATION, SLO)
    assert num_tokens == 32
    assert metrics["time_to_first_token_ms"] > 0
    assert metrics["mean_itl_ms"] == pytest.approx(metrics["generation_time_ms"] / (num_tokens - 1), abs=0.002)
    assert metrics["tokens_per_second"] == pytest.approx(1_000 / metrics["mean_itl_ms"], rel=0.01)
    drafted, accepted = speculation["num_draft_tokens"], speculation["num_accepted_draft_tokens"]
    assert 0 <= accepted <= drafted
    if steps := speculation["num_spec_steps"]:
        assert speculation["mean_acceptance_length"] == pytest.approx(1 + accepted / steps, abs=0.001)
        assert speculation["draft_acceptance_rate"] == pytest.approx(accepted / drafted, abs=0.001)
    assert (slo["class"], slo["tpot_target_ms"], slo["met"]) == ("custom", 60_000.0, True)
