"""Log-probabilities in OpenAI's shapes, whole and streamed, resumed, healed and put back where Redis forgot."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.unit.services.gateway.conftest import ANSWER, Served
from tests.unit.services.gateway.fake_verifier import Reply

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "logprobs": True}
PROMPT: dict[str, Any] = {"model": "tiny", "prompt": "hello", "logprobs": 2}


def chunks_of(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in response.text.split("\n") if line.startswith("data: {")]


async def test_openai_client_reads_a_chats_log_probabilities(served: Served) -> None:
    answer = await served.openai.chat.completions.create(**CHAT, top_logprobs=3)
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    tokens = served.tokenizer.encode(ANSWER, special=False)
    start = len(served.verifier.requests[0].prompt)
    assert [entry.logprob for entry in told.content] == [-float(start + i) for i in range(len(tokens))]
    assert b"".join(bytes(entry.bytes or []) for entry in told.content).decode() == ANSWER
    first = told.content[0]
    assert first.token == served.tokenizer.decode(tokens[:1])
    assert [top.logprob for top in first.top_logprobs] == [-start, -start - 0.25, -start - 0.5]
    assert [top.token for top in first.top_logprobs] == [served.tokenizer.decode([i]) for i in (5, 6, 7)]


async def test_openai_client_reads_a_completions_log_probabilities(served: Served) -> None:
    answer = await served.openai.completions.create(**PROMPT)
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.tokens is not None
    assert told.text_offset is not None
    assert told.token_logprobs is not None
    assert told.top_logprobs is not None
    start = len(served.verifier.requests[0].prompt)
    assert told.token_logprobs == [-float(start + i) for i in range(len(told.tokens))]
    for token, offset in zip(told.tokens, told.text_offset, strict=True):
        assert token.startswith("bytes:\\x") or ANSWER[offset:].startswith(token)
    assert told.tokens[0] in told.top_logprobs[0]
    assert len(told.top_logprobs[0]) == 3


@pytest.mark.parametrize("ask", [{"logprobs": 0}, {"logprobs": None}])
async def test_no_alternatives_and_none_at_all(served: Served, ask: dict[str, Any]) -> None:
    [choice] = (await served.http.post("/v1/completions", json={**PROMPT, **ask})).json()["choices"]
    if ask["logprobs"] is None:
        assert choice["logprobs"] is None
    else:
        assert all(len(top) == 1 for top in choice["logprobs"]["top_logprobs"])
    top = (await served.http.post("/v1/chat/completions", json=CHAT)).json()["choices"][0]["logprobs"]
    assert all(entry["top_logprobs"] == [] for entry in top["content"])


async def test_streamed_log_probabilities_are_those_of_the_whole_answer(served: Served) -> None:
    for path, body in (("/v1/chat/completions", {**CHAT, "top_logprobs": 2}), ("/v1/completions", PROMPT)):
        whole = (await served.http.post(path, json=body)).json()["choices"][0]["logprobs"]
        chunks = chunks_of(await served.http.post(path, json={**body, "stream": True}))
        told = [chunk["choices"][0]["logprobs"] for chunk in chunks if chunk["choices"][0]["logprobs"]]
        names = ["content"] if "content" in whole else ["tokens", "token_logprobs", "top_logprobs", "text_offset"]
        assert {name: [item for each in told for item in each[name]] for name in names} == {
            name: whole[name] for name in names
        }


async def test_a_resumed_stream_tells_the_same_events_from_every_position(served: Served) -> None:
    response = await served.http.post("/v1/completions", json={**PROMPT, "stream": True})
    name = response.headers["x-adaserve-stream"]
    events = response.text.split("\n\n")
    for index, event in enumerate(events[:-3]):
        last = event.split("\n")[0].removeprefix("id: ")
        resumed = await served.http.get(f"/v1/streams/{name}", headers={"last-event-id": last})
        assert resumed.text.split("\n\n") == events[index + 1 :]


async def test_lost_events_are_healed_with_their_log_probabilities(served: Served) -> None:
    served.answers(Reply([[5], [6, 7], [8]], unreadable=frozenset({1})))
    [choice] = (await served.http.post("/v1/completions", json=PROMPT)).json()["choices"]
    start = len(served.verifier.requests[0].prompt)
    assert choice["logprobs"]["token_logprobs"] == [-float(start + i) for i in range(4)]


async def test_what_redis_forgot_comes_back_with_its_log_probabilities(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.open_stream.RESTORE_AFTER_S", 0.0)
    gate = asyncio.Event()
    served.answers(Reply([[5], [6], [7]], gate=gate))
    call = asyncio.create_task(served.http.post("/v1/completions", json=PROMPT))
    await served.until(lambda: served.verifier.statuses)
    await served.until(lambda: [s for s in served.gateway._streams._open.values() if s.delivery.tokens])
    served.redis.flushall()
    request = served.verifier.requests[0].request
    await served.until(lambda: served.redis.xlen(served.keys.journal(request)))
    [(_, fields)] = served.redis.xrange(served.keys.journal(request))
    assert len(fields[b"logprobs"]) == 20
    gate.set()
    [choice] = (await call).json()["choices"]
    start = len(served.verifier.requests[0].prompt)
    assert choice["logprobs"]["token_logprobs"] == [-float(start + i) for i in range(3)]


async def test_a_stop_token_has_a_log_probability_too(served: Served) -> None:
    comma = served.tokenizer.encode(",", special=False)
    served.answers(Reply([served.tokenizer.encode("hello", special=False), comma], finish="stop"))
    [choice] = (await served.http.post("/v1/completions", json={**PROMPT, "stop_token_ids": comma})).json()[
        "choices"
    ]
    assert (choice["text"], choice["logprobs"]["tokens"][-1]) == ("hello", ",")
