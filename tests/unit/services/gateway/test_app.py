"""The HTTP interface as clients use it, on a fake verifier."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from services.gateway import schema_check
from services.gateway.middleware import MAX_BODY_BYTES
from shared.messages import MAX_DEPTH
from tests.unit.services.gateway.conftest import ANSWER, Served
from tests.unit.services.gateway.fake_verifier import Reply

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
PROMPT: dict[str, Any] = {"model": "tiny", "prompt": "hello"}
USAGE = {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}


async def test_openai_client_completes_a_chat(served: Served) -> None:
    answer = await served.openai.chat.completions.create(**CHAT, max_tokens=50)
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", ANSWER)
    assert (answer.object, answer.model, choice.finish_reason) == ("chat.completion", "tiny", "length")
    words = served.tokenizer.encode(ANSWER, special=False)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(words)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + len(words)
    request = served.verifier.requests[0]
    assert served.tokenizer.decode(request.prompt.tolist(), skip_special=False) == (
        "<s><|user|>user: hello\nassistant:"
    )
    assert answer.usage.prompt_tokens == len(request.prompt)


async def test_openai_client_streams_a_chat(served: Served) -> None:
    stream = await served.openai.chat.completions.create(
        **CHAT, max_tokens=50, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    contents = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(contents) == ANSWER
    assert all("\ufffd" not in content for content in contents)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert all(c.choices[0].finish_reason is None for c in chunks[:-2])
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(served.tokenizer.encode(ANSWER, special=False))
    assert len({c.id for c in chunks}) == 1


async def test_openai_client_completes_and_streams_text(served: Served) -> None:
    answer = await served.openai.completions.create(**PROMPT, max_tokens=50)
    assert (answer.object, answer.choices[0].text) == ("text_completion", ANSWER)
    stream = await served.openai.completions.create(**PROMPT, max_tokens=50, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].text for c in chunks) == ANSWER
    assert chunks[-1].choices[0].finish_reason == "length"
    assert served.verifier.requests[0].prompt.tolist() == served.tokenizer.encode("hello", special=True)


async def test_events_have_ids_and_end_with_done(served: Served) -> None:
    response = await served.http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    events = response.text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    request = served.verifier.requests[0]
    ids = [line for event in events for line in event.split("\n") if line.startswith("id: ")]
    positions = [int(line.split(":")[2]) for line in ids]
    assert all(line.startswith(f"id: {request.request}:") for line in ids)
    assert positions == sorted(positions)
    prompt, words = len(request.prompt), served.tokenizer.encode(ANSWER, special=False)
    assert (positions[0], positions[-1]) == (prompt, prompt + len(words))
    text = ""
    for event in events[:-1]:  # an id names exactly the text that has been sent
        chunk = json.loads(event.partition("data: ")[2])
        text += chunk["choices"][0]["delta"].get("content", "")
        position = int(event.split("\n")[0].split(":")[2])
        assert text == served.tokenizer.decode(words[: position - prompt])


async def test_metrics_ride_beside_usage(served: Served) -> None:
    body = {**CHAT, "adaserve": {"slo": {"tpot_ms": 40, "ttft_ms": 60000}}}
    answer = (await served.http.post("/v1/chat/completions", json=body)).json()
    metrics = answer["metrics"]
    assert answer["usage"].keys() == USAGE
    assert metrics["speculative_decoding"] == {
        "mean_acceptance_length": 3.5,
        "draft_acceptance_rate": 0.625,
        "num_draft_tokens": 8,
        "num_accepted_draft_tokens": 5,
        "num_spec_steps": 2,
    }
    assert metrics["queue_time_ms"] == 1.5
    assert metrics["time_to_first_token_ms"] > 0
    num_gaps = answer["usage"]["completion_tokens"] - 1
    assert metrics["mean_itl_ms"] == pytest.approx(metrics["generation_time_ms"] / num_gaps, abs=1e-3)
    assert metrics["slo"]["tpot_target_ms"] == 40
    assert metrics["slo"]["tpot_ms"] == metrics["mean_itl_ms"]
    assert metrics["slo"]["met"] is (metrics["slo"]["tpot_ms"] <= 40)


async def test_errors_of_the_server_are_counted_from_zero(served: Served) -> None:
    metrics = (await served.http.get("/metrics")).text.splitlines()
    for route in ("/v1/completions", "/v1/chat/completions"):
        for status in (500, 502, 503, 504):
            assert f'adaserve_http_requests_total{{route="{route}",status="{status}"}} 0.0' in metrics


async def test_attainment_and_goodput_are_counted_by_class(served: Served) -> None:
    usage = [
        (await served.http.post("/v1/chat/completions", json={**CHAT, "adaserve": {"slo": slo}})).json()["usage"]
        for slo in ({"ttft_ms": 60_000}, {"ttft_ms": 1e-6}, None)
    ]
    metrics = (await served.http.get("/metrics")).text.splitlines()
    tokens = usage[0]["completion_tokens"]
    assert 'adaserve_slo_requests_total{met="true",slo_class="custom"} 1.0' in metrics
    assert 'adaserve_slo_requests_total{met="false",slo_class="custom"} 1.0' in metrics
    assert f'adaserve_goodput_tokens_total{{slo_class="custom"}} {tokens}.0' in metrics
    assert 'adaserve_slo_missed_total{reason="ttft",slo_class="custom"} 1.0' in metrics
    assert 'adaserve_ttft_seconds_count{slo_class="best_effort"} 1.0' in metrics
    assert 'adaserve_tpot_seconds_count{slo_class="custom"} 2.0' in metrics
    assert not any("best_effort" in line for line in metrics if line.startswith("adaserve_slo"))  # it has none


async def test_request_fields_reach_the_verifier(served: Served) -> None:
    body = {
        **CHAT,
        "max_completion_tokens": 9,
        "min_tokens": 3,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": -1,
        "min_p": 0.1,
        "presence_penalty": -2,
        "frequency_penalty": 0.25,
        "repetition_penalty": 1.5,
        "logit_bias": {"7": -100, "0": 0.5},
        "seed": -1,
        "stop": ["a", "b"],
        "stop_token_ids": [7],
        "ignore_eos": True,
        "adaserve": {"slo": {"tpot_ms": 40}, "speculation": {"enabled": False}},
    }
    headers = {"x-slo-tpot-ms": "99", "x-llm-d-slo-ttft-ms": "800"}
    assert (await served.http.post("/v1/chat/completions", json=body, headers=headers)).status_code == 200
    request = served.verifier.requests[0]
    assert (request.max_tokens, request.min_tokens, request.temperature) == (9, 3, 0.0)
    assert (request.top_p, request.top_k, request.min_p, request.seed) == (0.5, 0, 0.1, 2**64 - 1)
    penalties = (request.presence_penalty, request.frequency_penalty, request.repetition_penalty)
    assert penalties == (-2.0, 0.25, 1.5)
    assert dict(zip(request.bias_ids.tolist(), request.bias.tolist(), strict=True)) == {7: -100.0, 0: 0.5}
    assert (request.stop, request.stop_token_ids, request.ignore_eos) == (("a", "b"), (7,), True)
    assert (request.tpot_ms, request.ttft_ms, request.speculation) == (40.0, 800.0, False)


async def test_defaults_are_best_effort_and_fill_the_context(served: Served) -> None:
    assert (await served.http.post("/v1/completions", json={"prompt": "hello"})).status_code == 200
    request = served.verifier.requests[0]
    assert (request.tpot_ms, request.ttft_ms) == (float("inf"), float("inf"))
    assert request.max_tokens == 200 - len(request.prompt)
    assert (request.temperature, request.top_p, request.top_k, request.min_p) == (1.0, 1.0, 0, 0.0)
    penalties = (request.presence_penalty, request.frequency_penalty, request.repetition_penalty)
    assert (penalties, len(request.bias_ids)) == ((0.0, 0.0, 1.0), 0)
    assert (request.speculation, request.max_depth) == (True, MAX_DEPTH)


@pytest.mark.parametrize("prompt", [[5, 6, 7], [[5, 6, 7]]])
async def test_token_ids_are_a_prompt_and_come_back_on_request(served: Served, prompt: list[Any]) -> None:
    body = {"prompt": prompt, "return_token_ids": True}
    words = served.tokenizer.encode(ANSWER, special=False)
    choice = (await served.http.post("/v1/completions", json=body)).json()["choices"][0]
    assert (choice["prompt_token_ids"], choice["token_ids"]) == ([5, 6, 7], words)
    response = await served.http.post("/v1/completions", json={**body, "stream": True})
    chunks = [json.loads(event.partition("data: ")[2]) for event in response.text.strip().split("\n\n")[:-1]]
    assert chunks[0]["choices"][0]["prompt_token_ids"] == [5, 6, 7]
    assert [t for chunk in chunks for t in chunk["choices"][0].get("token_ids", [])] == words


async def test_chat_has_prompt_token_ids_at_top_level(served: Served) -> None:
    body = {**CHAT, "return_token_ids": True}
    answer = (await served.http.post("/v1/chat/completions", json=body)).json()
    assert answer["prompt_token_ids"] == served.verifier.requests[0].prompt.tolist()
    assert answer["choices"][0]["token_ids"] == served.tokenizer.encode(ANSWER, special=False)


async def test_a_stop_token_counts_and_is_not_text(served: Served) -> None:
    comma = served.tokenizer.encode(",", special=False)
    served.answers(Reply([served.tokenizer.encode("hello", special=False), comma], finish="stop"))
    body = {**CHAT, "stop_token_ids": comma, "return_token_ids": True}
    answer = (await served.http.post("/v1/chat/completions", json=body)).json()
    choice = answer["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("hello", "stop")
    assert choice["token_ids"][-1:] == comma
    assert answer["usage"]["completion_tokens"] == len(choice["token_ids"])


async def test_a_stop_string_over_steps_is_never_shown(served: Served) -> None:
    words = served.tokenizer.encode("hello wörld", special=False)
    stop = "wörld"
    served.answers(Reply([[word] for word in words], finish="stop", text_length=len("hello ")))
    response = await served.http.post("/v1/completions", json={**PROMPT, "stop": stop, "stream": True})
    chunks = [json.loads(event.partition("data: ")[2]) for event in response.text.strip().split("\n\n")[:-1]]
    texts = [chunk["choices"][0]["text"] for chunk in chunks]
    assert "".join(texts) == "hello "


async def test_unknown_fields_are_ignored_with_a_warning(served: Served) -> None:
    body = {**CHAT, "vendor_magic": 1, "bad\nname": 2, "n": 1, "tools": None, "presence_penalty": 0.0}
    response = await served.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200
    assert response.headers["x-adaserve-warning"] == "ignored unknown fields: vendor_magic, (unprintable)"


async def test_models_version_probes_and_metrics(served: Served) -> None:
    (await served.http.post("/v1/chat/completions", json=CHAT)).raise_for_status()
    models = await served.openai.models.list()
    assert [model.id for model in models.data] == ["tiny"]
    assert (await served.http.get("/v1/models/default")).json()["max_model_len"] == 200
    assert (await served.http.get("/live")).status_code == 200
    assert (await served.http.get("/ready")).status_code == 200
    assert "version" in (await served.http.get("/version")).json()
    metrics = (await served.http.get("/metrics")).text
    assert 'route="/v1/chat/completions"' in metrics
    assert "adaserve_ttft" in metrics


async def test_not_ready_without_a_verifier_but_alive(served: Served) -> None:
    await served.verifier.stop()
    await served.gateway._fleet.refresh()
    assert (await served.http.get("/ready")).status_code == 503
    assert (await served.http.get("/live")).status_code == 200
    await served.verifier.start()


async def test_request_id_is_echoed_or_made(served: Served) -> None:
    assert (await served.http.get("/live", headers={"x-request-id": "abc-1"})).headers["x-request-id"] == "abc-1"
    assert len((await served.http.get("/live", headers={"x-request-id": "a b"})).headers["x-request-id"]) == 32


async def test_traceparent_of_the_client_goes_on_the_queue(served: Served) -> None:
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    await served.http.post("/v1/chat/completions", json=CHAT, headers={"traceparent": parent})
    assert served.verifier.traceparents == [parent]


def assert_error(answer: Any, status: int, code: str, *words: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert error.keys() == {"message", "type", "param", "code"}
    assert "x-request-id" in answer.headers
    for word in words:
        assert word in error["message"]


def schema_format(schema: Any, name: str = "a") -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


BAD_CHATS: list[tuple[dict[str, Any], str, tuple[str, ...]]] = [
    ({"temperature": -1}, "temperature", ("temperature", "greater than or equal to 0", "-1")),
    ({"temperature": 2.5}, "temperature", ("less than or equal to 2", "2.5")),
    ({"temperature": "hot"}, "temperature", ("'hot'",)),
    ({"temperature": True}, "temperature", ("number",)),
    ({"max_tokens": 0}, "max_tokens", ("greater than or equal to 1", "got 0")),
    ({"max_tokens": 199}, "max_tokens", ("199", "200")),
    ({"max_tokens": 10**30}, "max_tokens", ("max_tokens",)),
    ({"max_tokens": "5"}, "max_tokens", ("integer", "'5'")),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", ("5", "6")),
    ({"min_tokens": 5, "max_tokens": 4}, "min_tokens", ("5", "4")),
    ({"top_p": 0}, "top_p", ("greater than 0",)),
    ({"top_k": -2}, "top_k", ("-2",)),
    ({"min_p": 1.5}, "min_p", ("1.5",)),
    ({"seed": 2**64}, "seed", ("seed",)),
    ({"model": "x" * 300}, "model", ("256", "string of length 300")),
    ({"stop": [""]}, "stop", ("1 to 1024 bytes",)),
    ({"stop": ["secret"] * 17}, "stop", ("16",)),
    ({"stop": 5}, "stop", ("string",)),
    ({"stop_token_ids": [9999]}, "stop_token_ids", ("9999",)),
    ({"messages": []}, "messages", ("length 0",)),
    ({"messages": "secret"}, "messages", ("string of length 6",)),
    ({"messages": [{"role": "tool", "content": "secret"}]}, "messages.0.role", ("'user'", "length 4")),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content", ("text",)),
    ({"messages": [{"role": "user"}]}, "messages.0.content", ("required",)),
    ({"model": "gpt-9"}, "model", ("'gpt-9'", "'tiny'")),
    ({"model": 5}, "model", ("5",)),
    ({"stream": "yes"}, "stream", ("'yes'",)),
    ({"stream_options": {"include_usage": True}}, "stream_options", ("stream",)),
    ({"user": 5}, "user", ("string",)),
    ({"metadata": {"a": 5}}, "metadata", ()),
    ({"adaserve": {"slo": {"tpot_ms": 0}}}, "adaserve.slo.tpot_ms", ("greater than 0",)),
    ({"adaserve": {"slo": {"tpot_ms": 0.2}}}, "adaserve.slo.tpot_ms", ("0.2", "0.222")),
    ({"adaserve": {"slo": {"class": "gold"}}}, "adaserve.slo.class", ("no classes without a policy",)),
    ({"adaserve": {"speculation": {"max_depth": 65}}}, "adaserve.speculation.max_depth", ("64", "65")),
    ({"adaserve": {"acceptance": "lossy"}}, "adaserve.acceptance", ("'exact' or 'typical'", "lossy")),
    ({"n": 0}, "n", ("greater than or equal to 1",)),
    ({"n": 17}, "n", ("16", "17")),
    ({"n": True}, "n", ("integer",)),
    ({"best_of": 2}, "best_of", ("not supported",)),
    ({"presence_penalty": 2.5}, "presence_penalty", ("less than or equal to 2", "2.5")),
    ({"frequency_penalty": -2.5}, "frequency_penalty", ("greater than or equal to -2", "-2.5")),
    ({"repetition_penalty": 0}, "repetition_penalty", ("greater than 0",)),
    ({"repetition_penalty": 2.5}, "repetition_penalty", ("less than or equal to 2",)),
    ({"logit_bias": [1]}, "logit_bias", ("map",)),
    ({"logit_bias": {"secret": 1}}, "logit_bias", ("token ids", "object of length 1")),
    ({"logit_bias": {"01": 1}}, "logit_bias", ("token ids",)),
    ({"logit_bias": {"-1": 1}}, "logit_bias", ("token ids",)),
    ({"logit_bias": {"5": 100.5}}, "logit_bias", ("-100 to 100",)),
    ({"logit_bias": {"5": True}}, "logit_bias", ("numbers",)),
    ({"logit_bias": {"5": None}}, "logit_bias", ("numbers",)),
    ({"logit_bias": {"9999": 1}}, "logit_bias", ("9999",)),
    ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias", ("1024", "length 1025")),
    ({"logprobs": 2}, "logprobs", ("2",)),
    ({"top_logprobs": 2}, "top_logprobs", ("logprobs is true",)),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", ("20", "21")),
    ({"echo": True}, "echo", ("not supported",)),
    ({"response_format": "json_object"}, "response_format", ("string of length 11",)),
    ({"response_format": {"type": "xml"}}, "response_format.type", ("json_object",)),
    ({"response_format": {"type": "json_schema"}}, "response_format", ("needs the field json_schema",)),
    (
        {"response_format": {"type": "text", "json_schema": {"name": "a"}}},
        "response_format",
        ("json_schema only",),
    ),
    ({"response_format": schema_format({}, name="no name")}, "response_format.json_schema.name", ("pattern",)),
    ({"response_format": schema_format([])}, "response_format.json_schema.schema", ("dictionary",)),
    ({"response_format": schema_format({"type": "secret"})}, schema_check.PARAM, ("Invalid type", "17 bytes")),
    ({"response_format": schema_format({"not": {}})}, schema_check.PARAM, ('"not"',)),
    ({"response_format": schema_format({"const": "x" * 66_000})}, schema_check.PARAM, ("66012", "65536")),
    ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos", ("response_format",)),
    ({"tools": [{"type": "function"}]}, "tools", ("not supported",)),
]


@pytest.mark.parametrize(("change", "param", "words"), BAD_CHATS)
async def test_bad_chats_name_field_value_and_limit(
    front: httpx.AsyncClient, change: dict[str, Any], param: str, words: tuple[str, ...]
) -> None:
    answer = await front.post("/v1/chat/completions", json={**CHAT, **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error"), error
    assert all(word in error["message"] for word in words), error["message"]
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("wanted", "schema"),
    [
        (None, ""),
        ({"type": "text"}, ""),
        ({"type": "json_object"}, '{"type":"object"}'),
        (schema_format({"type": "integer"}), '{"type":"integer"}'),
        ({"type": "json_schema", "json_schema": {"name": "a", "strict": True}}, '{"type":"object"}'),
    ],
)
async def test_the_verifier_is_told_the_schema(served: Served, wanted: Any, schema: str) -> None:
    answer = await served.http.post("/v1/chat/completions", json={**CHAT, "response_format": wanted})
    assert answer.status_code == 200, answer.text
    assert served.verifier.requests[-1].schema == schema


BAD_PROMPTS: list[tuple[Any, tuple[str, ...]]] = [
    ("", ("length 0",)),
    ([], ("length 0",)),
    (["a", "b"], ("one prompt",)),
    ([1, "secret"], ("whole numbers",)),
    ([1, -1], ("from 0 to",)),
    ([1, 10**9], ("from 0 to",)),
    ([True], ("whole numbers",)),
    ({"a": 1}, ("string or a list",)),
    ("hello " * 500, ("context", "200")),
    (None, ()),
]


@pytest.mark.parametrize(("prompt", "words"), BAD_PROMPTS)
async def test_bad_prompts_are_refused_without_repeating_them(
    front: httpx.AsyncClient, prompt: Any, words: tuple[str, ...]
) -> None:
    answer = await front.post("/v1/completions", json={"prompt": prompt})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "prompt"), error
    assert all(word in error["message"] for word in words), error["message"]
    assert "secret" not in answer.text


@pytest.mark.parametrize("header", ["x-slo-tpot-ms", "x-llm-d-slo-ttft-ms"])
@pytest.mark.parametrize("value", ["fast", "-1", "nan", "inf", ""])
async def test_odd_slo_headers_are_named(front: httpx.AsyncClient, header: str, value: str) -> None:
    answer = await front.post("/v1/chat/completions", json=CHAT, headers={header: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, header)


async def test_every_path_answers_in_the_one_shape(front: httpx.AsyncClient) -> None:
    assert_error(await front.get("/nowhere"), 404, "not_found", "/nowhere")
    assert_error(await front.get("/v1/completions"), 405, "method_not_allowed", "GET")
    assert_error(await front.get("/v1/models/other"), 404, "model_not_found", "other")
    json_header = {"content-type": "application/json"}
    for body, code in ((b"{", "invalid_json"), (b"[]", "invalid_body"), (b"", ""), (b'"x"', "")):
        answer = await front.post("/v1/completions", content=body, headers=json_header)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == code or not code
    for body in (
        b"\xff\xfe",
        b'{"prompt": "\\ud800"}',
        b'{"prompt": ' + b"1" * 5000 + b"}",
        b'{"temperature": NaN}',
    ):
        answer = await front.post("/v1/completions", content=body, headers=json_header)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_large_and_deep_bodies_are_refused(front: httpx.AsyncClient) -> None:
    large = b'{"prompt": "' + b"x" * MAX_BODY_BYTES + b'"}'
    assert_error(await front.post("/v1/completions", content=large), 413, "body_too_large", str(MAX_BODY_BYTES))

    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 65536

    assert_error(await front.post("/v1/completions", content=chunks()), 413, "body_too_large")
    deep = b'{"x": ' + b"[" * 40 + b"]" * 40 + b"}"
    refused = await front.post("/v1/completions", content=deep, headers={"content-type": "application/json"})
    assert_error(refused, 400, "body_too_deep", "32")


@pytest.mark.parametrize("options", [{"queue_limit": 1}])
async def test_a_full_queue_is_429_with_retry_after(served: Served, options: dict[str, Any]) -> None:
    await served.verifier.pause()
    served.redis.xadd(served.keys.requests(2), {"body": "another"})
    answer = await served.http.post("/v1/chat/completions", json=CHAT)
    assert_error(answer, 429, "queue_full", "1 ")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["retry-after-ms"] == "1000"
