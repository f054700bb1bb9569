"""`n` choices in one answer: whole, streamed, cancelled, repeated under a key, and resumed one by one."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest

from services.gateway.accounts import Account, total_metrics, total_usage
from services.gateway.answer import choice_id, merged
from services.gateway.slo import Slo
from shared.messages import Request
from tests.unit.services.gateway.conftest import Served
from tests.unit.services.gateway.fake_verifier import Reply

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "n": 3, "seed": 40}
PROMPT: dict[str, Any] = {"prompt": "hello", "n": 3, "seed": 2**64 - 1, "return_token_ids": True}


def by_seed(request: Request) -> Reply:
    """Choice i draws i + 1 tokens, one a step."""
    index = (request.seed - 40) % 2**64
    return Reply([[5 + index] for _ in range(index + 1)])


async def test_openai_client_gets_every_choice_with_its_own_seed(served: Served) -> None:
    served.answers(by_seed)
    answer = await served.openai.chat.completions.create(**CHAT)
    texts = [served.tokenizer.decode([5 + index] * (index + 1)) for index in range(3)]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [choice.message.content for choice in answer.choices] == texts
    assert sorted(request.seed for request in served.verifier.requests) == [40, 41, 42]
    assert len({request.request for request in served.verifier.requests}) == 3
    prompt = len(served.verifier.requests[0].prompt)
    assert answer.usage is not None
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": prompt,
        "completion_tokens": 6,
        "total_tokens": prompt + 6,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    counted = (await served.http.get("/admin/usage")).json()["totals"]
    assert (counted["requests"], counted["prompt_tokens"], counted["output_tokens"]) == (3, prompt, 6)


async def test_streamed_chunks_carry_their_index_and_end_once(served: Served) -> None:
    served.answers(by_seed)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = [chunk async for chunk in await served.openai.chat.completions.create(**CHAT, **options)]
    texts: dict[int, str] = defaultdict(str)
    ends: list[int] = []
    for chunk in chunks[:-1]:
        [choice] = chunk.choices
        assert choice.index not in ends
        texts[choice.index] += choice.delta.content or ""
        ends += [choice.index] if choice.finish_reason else []
    assert [texts[i] for i in range(3)] == [served.tokenizer.decode([5 + i] * (i + 1)) for i in range(3)]
    assert sorted(ends) == [0, 1, 2]
    assert len({chunk.id for chunk in chunks}) == 1
    assert (chunks[-1].choices, chunks[-1].usage and chunks[-1].usage.completion_tokens) == ([], 6)


async def test_seeds_wrap_around(served: Served) -> None:
    answer = (await served.http.post("/v1/completions", json=PROMPT)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert sorted(request.seed for request in served.verifier.requests) == [0, 1, 2**64 - 1]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_every_choice(served: Served, stream: bool) -> None:
    served.answers(Reply([[5], [6]], gate=asyncio.Event()))
    call = asyncio.create_task(served.http.post("/v1/completions", json={**PROMPT, "stream": stream}))
    await served.until(lambda: len(served.verifier.statuses) == 3)
    call.cancel()
    ids = [request.request for request in served.verifier.requests]
    await served.until(lambda: all(served.status(request) == "cancelled" for request in ids))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_gateway_that_goes_names_the_streams_of_all_choices(served: Served, stream: bool) -> None:
    served.answers(Reply([[5], [6]], gate=asyncio.Event()))
    asking = asyncio.create_task(served.http.post("/v1/completions", json={**PROMPT, "stream": stream}))
    await served.until(lambda: len(served.verifier.statuses) == 3)
    served.gateway.end_streams()
    answer = await asking
    ids = {request.request for request in served.verifier.requests}
    assert set(answer.headers["x-adaserve-stream"].split(", ")) == ids
    assert answer.status_code == (200 if stream else 503)
    error = json.loads(answer.text.rpartition("data: ")[2])["error"] if stream else answer.json()["error"]
    assert error["code"] == "draining"
    assert all(request in error["message"] for request in ids)
    await served.until(lambda: all(served.redis.zscore(served.keys.abandoned, request) for request in ids))


@pytest.mark.parametrize("options", [{"queue_limit": 2}])
async def test_more_choices_than_the_queue_holds_never_fit(served: Served, options: dict[str, Any]) -> None:
    answer = await served.http.post("/v1/completions", json=PROMPT)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "n", "invalid_value")


@pytest.mark.parametrize("options", [{"queue_limit": 3}])
async def test_choices_of_which_one_finds_no_room_are_not_queued(served: Served, options: dict[str, Any]) -> None:
    await served.verifier.pause()
    served.redis.xadd(served.keys.requests(2), {"body": "x"})
    answer = await served.http.post("/v1/completions", json=PROMPT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert not served.redis.keys(served.keys.request("*"))


@pytest.mark.parametrize("options", [{"queue_limit": 2}])
@pytest.mark.parametrize("resumable", [False, True])
async def test_a_choice_that_finds_no_room_any_more_takes_the_others_with_it(
    served: Served, options: dict[str, Any], resumable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.verifier.pause()
    monkeypatch.setattr(served.gateway._submission._door, "check", AsyncMock())
    answer = await served.http.post("/v1/completions", json={**PROMPT, "adaserve": {"resumable": resumable}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    await served.until(lambda: served.redis.xlen(served.keys.requests(2)) == 0)
    requests = served.redis.keys(served.keys.request("*"))
    assert [served.redis.hget(request, "status") for request in requests] == [b"cancelled"] * 2


async def test_a_choice_that_fails_ends_the_answer_with_its_error(served: Served) -> None:
    gate = asyncio.Event()
    served.answers(
        lambda request: (
            Reply([[5]], "error", error="broken") if request.seed == 0 else Reply([[5], [6]], gate=gate)
        )
    )
    whole = await served.http.post("/v1/completions", json=PROMPT)
    assert (whole.status_code, whole.json()["error"]["code"]) == (500, "generation_failed")
    streamed = await served.http.post("/v1/completions", json={**PROMPT, "stream": True})
    assert "event: error" in streamed.text
    assert "[DONE]" not in streamed.text
    ids = [request.request for request in served.verifier.requests if request.seed != 0]
    await served.until(lambda: all(served.status(request) == "cancelled" for request in ids))


async def test_a_key_joins_every_choice(served: Served) -> None:
    served.answers(Reply([[5], [6]]))
    headers = {"idempotency-key": "k"}
    first, again = [await served.http.post("/v1/completions", json=PROMPT, headers=headers) for _ in range(2)]
    assert first.json()["choices"] == again.json()["choices"]
    assert len(served.verifier.requests) == 3
    other = await served.http.post("/v1/completions", json={**PROMPT, "n": 2}, headers=headers)
    assert other.json()["error"]["code"] == "idempotency_key_reused"


async def test_each_choice_is_a_stream_that_can_be_resumed(served: Served) -> None:
    served.answers(by_seed)
    body = {**PROMPT, "seed": 40, "stream": True}
    response = await served.http.post("/v1/completions", json=body)
    names = response.headers["x-adaserve-stream"].split(", ")
    assert names == [choice_id(names[0], index) for index in range(3)]
    resumed = await served.http.get(f"/v1/streams/{names[2]}")
    assert chunks_of(resumed) == [chunk for chunk in chunks_of(response) if chunk["choices"][0]["index"] == 2]
    last = resumed.text.rpartition("id: ")[2].split("\n")[0]
    assert last.startswith(names[2])
    rest = await served.http.get(f"/v1/streams/{names[2]}", headers={"last-event-id": last})
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks_of(rest)] == ["length"]


def chunks_of(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in response.text.split("\n") if line.startswith("data: {")]


async def test_sources_are_merged_whole_and_a_failure_ends_all() -> None:
    async def source(name: int, count: int, broken: bool = False) -> AsyncGenerator[tuple[int, int], None]:
        for number in range(count):
            await asyncio.sleep(0)
            yield name, number
        if broken:
            raise ValueError(name)

    found = [item async for item in merged([source(0, 3), source(1, 50), source(2, 0)])]
    assert [item for item in found if item[0] == 1] == [(1, number) for number in range(50)]
    assert len(found) == 53
    with pytest.raises(ValueError, match="1"):
        async for _ in merged([source(0, 10**9), source(1, 2, broken=True)]):
            pass


def account(**changes: Any) -> Account:
    values: dict[str, Any] = {
        "prompt_tokens": 3,
        "output_tokens": 5,
        "ttft_ms": 20.0,
        "first_ms": 100.0,
        "last_ms": 300.0,
        "stats": {
            "num_spec_steps": 2.0,
            "num_draft_tokens": 8.0,
            "num_accepted_draft_tokens": 5.0,
            "queue_ms": 1.0,
            "num_cached_tokens": 2.0,
        },
        "slo": Slo(tpot_ms=50),
    }
    return Account(**(values | changes))


def test_figures_of_an_answer_add_up_and_the_slowest_choice_judges() -> None:
    slow = account(output_tokens=3, ttft_ms=30.0, first_ms=110.0, last_ms=400.0)
    choices = [account(), slow]
    assert total_usage(choices) == {
        "prompt_tokens": 3,
        "completion_tokens": 8,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    metrics = total_metrics(choices)
    assert (metrics["time_to_first_token_ms"], metrics["generation_time_ms"]) == (20, 300)
    assert (metrics["mean_itl_ms"], metrics["queue_time_ms"]) == (145, 1)
    assert metrics["tokens_per_second"] == pytest.approx(20 + 1000 / 145, abs=1e-3)
    assert metrics["speculative_decoding"]["num_draft_tokens"] == 16
    assert metrics["speculative_decoding"]["mean_acceptance_length"] == 3.5
    assert (metrics["slo"]["tpot_ms"], metrics["slo"]["met"]) == (145, False)
    assert total_metrics([account()]) == account().metrics()
    assert total_metrics([account(slo=Slo())] * 2)["slo"]["met"] is None
