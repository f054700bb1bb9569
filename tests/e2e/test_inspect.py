"""Inspected requests and the live view on the running system."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import pytest

from bench.local import LocalStack
from tests.e2e.test_ring import ask, tokens, until

TARGET_MS = 1009.0  # of no other request

pytestmark = pytest.mark.timeout(120)


def streamed(stack: LocalStack, body: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The stream's name and the choices of its chunks."""
    with httpx.stream("POST", f"{stack.url}/v1/completions", json={"stream": True, **body}, timeout=60) as answer:
        lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: {")]
        return answer.headers["x-adaserve-stream"], [json.loads(line)["choices"][0] for line in lines]


def test_an_inspected_stream_tells_the_whole_story_of_its_tokens(stack: LocalStack) -> None:
    wanted = ask(1, adaserve={"slo": {"tpot_ms": 400}})
    plain = stack.complete({**wanted, "return_token_ids": True})
    stream, chunks = streamed(stack, {**wanted, "adaserve": {**wanted["adaserve"], "inspect": True}})
    ids = [token for chunk in chunks for token in chunk.get("token_ids", [])]
    flags = [flag for chunk in chunks for flag in chunk.get("adaserve", {}).get("drafted", [])]
    assert ids == tokens(plain)  # to be looked at changes nothing
    assert len(flags) == len(ids)
    assert {True, False} == set(flags)

    first = told = stack.get(f"/v1/streams/{stream}/inspect")
    iterations = told["iterations"]
    while told["more"]:
        told = stack.get(f"/v1/streams/{stream}/inspect?after={told['cursor']}")
        iterations += told["iterations"]
    assert (told["id"], told["object"]) == (stream, "inspect")
    told_flags, text, position = [], "", iterations[0]["position"]
    for iteration in iterations:
        nodes, own = iteration["nodes"], iteration["own"]
        path = [node for node in nodes if node["accepted"]]
        assert all(-1 <= node["parent"] < place for place, node in enumerate(nodes))
        assert all(node["phase"] for node in path)
        assert iteration["position"] == position + len(told_flags)
        told_flags += [True] * len(path) + [False] * (own is not None)
        text += "".join(node["text"] for node in path) + (own["text"] if own else "")
    assert told_flags == flags
    assert text.startswith(plain["choices"][0]["text"])  # a token that ends it is no text
    assert "".join(chunk["text"] for chunk in chunks) == plain["choices"][0]["text"]
    drafted = [iteration for iteration in iterations if iteration["nodes"]]
    assert all(iteration["tpot_target_ms"] == 400 for iteration in iterations)
    assert all(iteration["need"] is not None and iteration["rows"] >= 1 for iteration in drafted)
    assert all(iteration["verify_ms"] > 0 and iteration["draft_ms"] > 0 for iteration in drafted)

    later = stack.get(f"/v1/streams/{stream}/inspect?after={told['cursor']}")
    assert (later["iterations"], later["cursor"]) == ([], told["cursor"])
    assert stack.get(f"/admin/streams/{stream}/inspect")["cursor"] == first["cursor"]


def test_the_live_view_shows_a_request_while_it_runs(stack: LocalStack) -> None:
    body = ask(2, max_tokens=400, ignore_eos=True, adaserve={"slo": {"tpot_ms": TARGET_MS}})
    asking = threading.Thread(target=stack.complete, args=(body,))
    asking.start()
    live: dict[str, Any] = {}
    shown: list[dict[str, Any]] = []

    def shows_it() -> bool:
        live.update(stack.get("/admin/live"))
        shown[:] = [each for each in live["requests"] if each["tpot_target_ms"] == TARGET_MS]
        return bool(shown) and shown[0]["output_tokens"] > 1

    until(shows_it, 30.0, "the request is not shown")
    asking.join()
    [one] = shown
    assert (one["tenant"], one["class"], one["state"]) == ("default", "custom", "decoding")
    assert one["slack_ms"] > 0
    [verifier] = [each for each in live["verifiers"] if each["name"] == one["verifier"]]
    assert verifier["running"] >= 1
    assert verifier["steps_per_s"] > 0
    assert verifier["drafter"] in {each["name"] for each in live["drafters"]}
    assert live["redis"]["used_bytes"] > 0
    ended = {each["name"]: each["requests"] for each in stack.get("/admin/live")["classes"]}
    assert ended["custom"] >= 1
