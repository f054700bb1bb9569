"""`adaserve replay` on the running system: its figures are those of the server."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from bench.local import LocalStack
from cli.main import app

# Twelve requests of which the summaries have all the time of the world and the chats next to none.
TRACE = "relative:rps=2,seconds=6,lengths=0.1,coding=8,chatbot=0.5,summarization=1000"


def test_a_replays_figures_equal_the_servers_own(stack: LocalStack) -> None:
    result = CliRunner().invoke(
        app,
        [
            *("replay", "--trace", TRACE, "--url", stack.url, "--json", "--seed", "1"),
            *("--zero-load-ms", str(stack.zero_load_ms())),
            *("--metrics", f"http://127.0.0.1:{stack.ports['drafter']}/metrics"),
            *("--metrics", f"http://127.0.0.1:{stack.ports['verifier']}/metrics"),
        ],
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    (tally,) = report["replay"]["tally"]
    assert report["replay"]["failures"] == {}
    assert tally["client"] == tally["server"]
    assert tally["server"]["judged"] == report["replay"]["requests"] == 12
    assert 0 < tally["server"]["attained"] < 12
    assert report["attainment"]["by_category"]["summarization"] == 100.0
    assert report["tokens_per_verification"] >= 1.0
    assert report["time_share"]["verification"] > 0
    assert report["ttft_ms"]["p50"] <= report["replay"]["seen_by_client"]["ttft_ms"]["p50"]
