"""`/tokenize` and `/detokenize` give what completions are made of, and each other's input."""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

import httpx
import pytest

from services.gateway import prompts
from tests.unit.services.gateway.conftest import Served

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("path", "asked"),
    [("/v1/completions", {"prompt": "hello wörld"}), ("/v1/chat/completions", {"messages": MESSAGES})],
)
async def test_tokens_are_those_a_completion_reads(served: Served, path: str, asked: dict[str, Any]) -> None:
    answer = (await served.http.post("/tokenize", json={**asked, "return_token_strs": True})).json()
    await served.http.post(path, json=asked)
    prompt = served.verifier.requests[0].prompt.tolist()
    assert (answer["tokens"], answer["count"], answer["max_model_len"]) == (prompt, len(prompt), 200)
    assert answer["token_strs"] == [served.tokenizer.token(token) for token in prompt]


async def test_text_comes_back_and_special_tokens_are_left_out_on_request(served: Served) -> None:
    asked = {"prompt": "hello wörld", "add_special_tokens": False}
    answer = (await served.http.post("/tokenize", json=asked)).json()
    assert answer["token_strs"] is None
    text = (await served.http.post("/detokenize", json={"tokens": answer["tokens"]})).json()
    assert text == {"prompt": "hello wörld"}
    marked = (await served.http.post("/tokenize", json={"messages": MESSAGES, "add_special_tokens": True})).json()
    plain = (await served.http.post("/tokenize", json={"messages": MESSAGES})).json()
    assert marked["count"] == plain["count"] + 1


async def test_nothing_is_no_tokens_and_no_text(front: httpx.AsyncClient) -> None:
    assert (await front.post("/detokenize", json={"tokens": []})).json() == {"prompt": ""}
    answer = (await front.post("/tokenize", json={"prompt": "", "add_special_tokens": False})).json()
    assert (answer["tokens"], answer["count"]) == ([], 0)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "secret", "messages": MESSAGES}, "prompt"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"prompt": "secret", "model": "gpt-9"}, "model"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [1, 10**9]}, "tokens"),
        ("/detokenize", {"tokens": ["secret"]}, "tokens.0"),
    ],
)
async def test_odd_bodies_are_named(front: httpx.AsyncClient, path: str, body: dict[str, Any], param: str) -> None:
    answer = await front.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert "secret" not in answer.text


async def test_what_is_ignored_is_told_and_what_is_not_built_is_refused(front: httpx.AsyncClient) -> None:
    message = {"role": "user", "content": "hello"}
    answer = await front.post("/tokenize", json={"messages": [{**message, "vendor": 1}], "magic": 2})
    assert answer.headers["x-adaserve-warning"] == "ignored unknown fields: magic, messages.0.vendor"
    answer = await front.post("/detokenize", json={"tokens": [5], "magic": 2})
    assert answer.headers["x-adaserve-warning"] == "ignored unknown fields: magic"
    answer = await front.post("/tokenize", json={"messages": [{**message, "tool_calls": [{}]}]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages.0.tool_calls")


@pytest.mark.parametrize("special", [True, False])
async def test_a_long_text_holds_up_nobody_else(served: Served, special: bool) -> None:
    """The tokenizer must let go of Python's lock while it is at it, and the reply is made elsewhere, too."""
    text = "def f(x):\n    return x + 1\n" * 20_000
    loop = asyncio.get_running_loop()
    asked = {"prompt": text, "return_token_strs": True, "add_special_tokens": special}
    asking = asyncio.create_task(served.http.post("/tokenize", json=asked))
    await asyncio.sleep(0.05)  # the body has been read
    gaps, before = [], loop.time()
    while not asking.done():
        await asyncio.sleep(0.001)
        gaps.append(loop.time() - before)
        before = loop.time()
    answer = (await asking).json()
    assert answer["count"] == len(answer["token_strs"]) > 100_000
    assert statistics.quantiles(gaps, n=20)[-1] < 0.1, "19 of 20 looks come on time"
    assert len(gaps) > 20


async def test_who_waits_too_long_for_the_tokenizer_is_told(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "QUEUE_S", 0.01)
    turns = served.gateway.prompts._turns
    async with turns.turn("a"), turns.turn("b"):
        answer = await served.http.post("/tokenize", json={"prompt": "x" * 5000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
