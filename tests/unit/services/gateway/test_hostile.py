"""Hostile requests and the one error shape: whatever comes, an answer for programs, with its request id."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from services.gateway.bodies import MAX_CONTAINERS, MAX_JSON_DEPTH, parse
from services.gateway.errors import ApiError
from services.gateway.handler import Gateway
from services.gateway.middleware import MAX_BODY_BYTES
from tests.unit.services.gateway.conftest import Served
from tests.unit.services.gateway.fake_verifier import Reply
from tests.unit.services.gateway.test_app import CHAT, PROMPT

JSON = {"content-type": "application/json"}
MAX_PARSE_S = 0.1  # of CPU time on a busy machine, where json.loads needs 0.3 for the first of the bodies


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code, error
    return error


async def test_405_allows_the_methods_of_all_routes_of_the_path(front: httpx.AsyncClient) -> None:
    for method, path, allowed in [
        ("GET", "/v1/chat/completions", "POST"),
        ("PATCH", "/admin/mode", "GET, PUT"),
        ("POST", "/v1/streams/" + "0" * 32, "DELETE, GET"),
        ("TRACE", "/v1/models/x", "GET"),
        ("OPTIONS", "/live", "GET"),
    ]:
        answer = await front.request(method, path)
        error_of(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/v1/completions/", "/v1/models/", "/live/", "/console", "/v1/models/a/b"])
async def test_another_path_is_404_and_no_redirect(front: httpx.AsyncClient, path: str) -> None:
    url = f"http://localhost{path}"  # in full: a path that begins with two slashes would be taken for a host
    error_of(await front.post(url, json=PROMPT), 404, "not_found")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "", "json", "\xff"]
)
async def test_other_content_types_are_415(front: httpx.AsyncClient, content_type: str) -> None:
    headers = {"content-type": content_type.encode("latin-1")}
    answer = await front.post("/v1/completions", content=json.dumps(PROMPT), headers=headers)
    assert error_of(answer, 415, "unsupported_media_type")["param"] == "content-type"
    assert error_of(await front.post("/tokenize", content=b"{}"), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/a+json"]
)
async def test_json_may_be_called_otherwise(front: httpx.AsyncClient, content_type: str) -> None:
    answer = await front.post("/tokenize", content=b'{"prompt": "a"}', headers={"content-type": content_type})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"not json",
        b'{"prompt": "a"} b',
        b"\xff\xfe",
        b'\xef\xbb\xbf{"prompt": "a"}',
        b'{"prompt": "\xed\xa0\x80"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "a\nb"}',
        b'{"temperature": NaN}',
        b'{"temperature": -Infinity}',
        b'{"seed": ' + b"1" * 5000 + b"}",
        b"{'prompt': 'a'}",
        b"]" * 100,
    ],
)
async def test_what_is_no_json_is_named_so_and_not_quoted(front: httpx.AsyncClient, body: bytes) -> None:
    answer = await front.post("/v1/completions", content=body, headers=JSON)
    assert "prompt" not in error_of(answer, 400, "invalid_json")["message"]


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"1", b"null", b"true", b""])
async def test_json_that_is_no_object_is_named_so(front: httpx.AsyncClient, body: bytes) -> None:
    error_of(await front.post("/v1/completions", content=body, headers=JSON), 400, "invalid_body")


@pytest.mark.parametrize(
    "number", ["1e400", "-1e400", str(2**64), str(-(2**64)), "9" * 400, "1e308", "5e-324", "-0.0"]
)
@pytest.mark.parametrize(
    "field", ["seed", "max_tokens", "temperature", "top_k", "stop_token_ids", "logit_bias", "slo"]
)
async def test_numbers_beyond_any_type_are_refused_by_name(
    front: httpx.AsyncClient, field: str, number: str
) -> None:
    named = {
        "stop_token_ids": f'"stop_token_ids": [{number}]',
        "logit_bias": f'"logit_bias": {{"1": {number}}}',
        "slo": f'"adaserve": {{"slo": {{"tpot_ms": {number}}}}}',
    }.get(field, f'"{field}": {number}')
    body = f'{{"model": "none", "prompt": "a", {named}}}'  # what may pass ends at the model
    answer = await front.post("/v1/completions", content=body.encode(), headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("invalid_value", "invalid_json", "model_not_found")


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\u2028", "\U0010ffff", "\ufeff"])
async def test_odd_characters_are_text(front: httpx.AsyncClient, text: str) -> None:
    count = (await front.post("/tokenize", json={"prompt": text, "add_special_tokens": False})).json()
    back = await front.post("/detokenize", json={"tokens": count["tokens"]})
    assert back.json()["prompt"] == text


@pytest.mark.parametrize("header", ["x-slo-tpot-ms", "x-llm-d-slo-ttft-ms"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "1_0", " ", "1e9", "+5", "0x10", "1" * 5000])
async def test_an_odd_slo_header_is_named_even_where_the_body_wins(
    front: httpx.AsyncClient, header: str, value: str
) -> None:
    body = {**PROMPT, "adaserve": {"slo": {"tpot_ms": 50, "ttft_ms": 500}}}
    answer = await front.post("/v1/completions", json=body, headers={header: value})
    assert error_of(answer, 400, "invalid_value")["param"] == header


@pytest.mark.parametrize("path", ["/v1/streams/%00", "/v1/models/%ED%A0%80", "/v1/models/%FF", "/%2e%2e/x", "/\\"])
async def test_odd_paths_are_404(front: httpx.AsyncClient, path: str) -> None:
    answer = await front.get(path)
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")


@pytest.mark.parametrize(
    ("given", "is_echoed"), [("a" * 128, True), ("a-Z_0.9:x", True), ("a" * 129, False), ("é", False), ("", False)]
)
async def test_every_error_has_the_request_id(front: httpx.AsyncClient, given: str, is_echoed: bool) -> None:
    headers = {"x-request-id": given.encode()}
    large = b"x" * (MAX_BODY_BYTES + 1)
    answers = [
        await front.get("/nowhere", headers=headers),
        await front.patch("/v1/completions", headers=headers),
        await front.post("/v1/completions", json={}, headers=headers),
        await front.post("/v1/completions", content=b"{", headers={**headers, **JSON}),
        await front.post("/v1/completions", content=b"{}", headers=headers),
        await front.post("/v1/completions", content=large, headers={**headers, **JSON}),
    ]
    assert [answer.status_code for answer in answers] == [404, 405, 400, 400, 415, 413]
    for answer in answers:
        assert (answer.headers["x-request-id"] == given) is is_echoed
        assert len(answer.headers["x-request-id"]) <= 128


async def test_a_bug_is_500_and_tells_nothing(front: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(Gateway, "check_model", broken)
    answer = await front.post("/tokenize", json={"prompt": "a"}, headers={"x-request-id": "find-me"})
    assert error_of(answer, 500, "internal_error")["type"] == "server_error"
    assert answer.headers["x-request-id"] == "find-me"
    for word in ("secret", "RuntimeError", "Traceback", ".py"):
        assert word not in answer.text


async def test_an_error_inside_a_stream_is_an_event_of_the_same_shape(served: Served) -> None:
    served.answers(Reply([[5]], finish="error", error="it went wrong"))
    answer = await served.http.post(
        "/v1/chat/completions", json={**CHAT, "stream": True}, headers={"x-request-id": "find-me"}
    )
    last = answer.text.strip().split("\n\n")[-1].split("\n")
    assert last[0] == "event: error"
    error = json.loads(last[1].removeprefix("data: "))["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("server_error", "generation_failed")
    assert "[DONE]" not in answer.text
    assert answer.headers["x-request-id"] == "find-me"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"x": [' + b"[]," * (MAX_BODY_BYTES // 3 - 8) + b"[]]}", "body_too_complex"),
        (b'{"x": [' + b"[]," * (MAX_CONTAINERS - 8) + b"[]]}", None),
        (b"[" * MAX_BODY_BYTES, "body_too_complex"),
        (b"[" * (MAX_CONTAINERS - 1), "body_too_deep"),
        (b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1), "body_too_deep"),
        (b'"' + b"[" * (MAX_JSON_DEPTH + 1) + b'\\"["', None),
        (b'"\\\\' * (MAX_BODY_BYTES // 3), "invalid_json"),
        (b'{"x": [' + b'"",' * (MAX_BODY_BYTES // 3 - 8) + b'""]}', None),
        (b'{"prompt": [' + b"1," * (MAX_BODY_BYTES // 2 - 8) + b"1]}", None),
    ],
)
def test_no_body_takes_long_to_parse(body: bytes, code: str | None) -> None:
    took = []
    for _ in range(3):
        begun = time.thread_time()
        assert code_of(body) == code
        took.append(time.thread_time() - begun)
    assert min(took) < MAX_PARSE_S


def code_of(body: bytes) -> str | None:
    try:
        parse(body)
    except ApiError as error:
        return error.code
    return None
