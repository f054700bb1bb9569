"""The OpenAPI document: complete, valid, and true of what the gateway answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from fastapi.routing import APIRoute

from services.gateway.app import VERSION
from services.gateway.description import examples
from services.gateway.description.document import OPERATIONS, document
from services.gateway.description.operation import Operation
from shared.policy import load_policy
from tests.conformance.described import Described
from tests.unit.services.gateway.conftest import Served
from tests.unit.services.gateway.fake_verifier import Reply

DESCRIBED = Described(document(VERSION))
NAMES = [operation.name for operation in OPERATIONS]
BODIES = [(operation, name, body) for operation in OPERATIONS for name, body in operation.body_examples.items()]


async def test_the_table_has_every_route_and_no_other(front: httpx.AsyncClient) -> None:
    app = front._transport.app  # type: ignore[attr-defined]
    routed = {
        (method.lower(), route.path)
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert routed == {(operation.method, operation.path) for operation in OPERATIONS}
    assert len(set(NAMES)) == len(NAMES)
    assert (await front.get("/openapi.json")).json() == DESCRIBED.document


def test_every_schema_is_valid_and_every_reference_ends_somewhere() -> None:
    schemas = DESCRIBED.document["components"]["schemas"]
    for name, schema in schemas.items():
        assert jsonschema_rs.meta.is_valid(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        ), name
    for reference in references(DESCRIBED.document):
        assert reference.removeprefix("#/components/schemas/") in schemas


async def test_what_asks_for_a_key_is_said_to(served: Served) -> None:
    """Every operation, tried without a key once there are some, and with one of the other scope."""
    made = await served.http.post("/admin/keys", json={"tenant": "acme", "scopes": ["inference"]})
    headers = {"authorization": f"Bearer {made.json()['key']}"}
    await served.http.post("/admin/keys", json={"tenant": "acme", "scopes": ["admin"]}, headers=headers)
    schemes = DESCRIBED.document["components"]["securitySchemes"]
    assert {scheme["scheme"] for scheme in schemes.values()} == {"bearer"}
    for operation in OPERATIONS:
        described = DESCRIBED.operation(operation.method, operation.path)
        scopes = [name for entry in described["security"] for name in entry]
        assert set(scopes) <= set(schemes)
        assert "authorization" not in {one["name"].lower() for one in described["parameters"]}
        path = operation.path.format_map(
            {"stream": "0" * 32, "model": "default", "key_id": "nobody", "request_id": "0", "file": "x"}
        )
        answer = await served.http.request(operation.method, path)
        assert (answer.status_code == 401) == bool(scopes), operation.name
        answer = await served.http.request(operation.method, path, headers=headers)
        assert (answer.status_code == 403) == (scopes == ["admin"]), operation.name


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for inner in value.values() for found in references(inner)]
    return [found for inner in value for found in references(inner)] if isinstance(value, list) else []


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
def test_every_example_is_as_its_schema_says(operation: Any) -> None:
    described = DESCRIBED.operation(operation.method, operation.path)
    if operation.body is not None:
        (content,) = described["requestBody"]["content"].values()
        assert content["examples"]
        for example in content["examples"].values():
            DESCRIBED.check(content["schema"], example["value"])
    for status, answer in described["responses"].items():
        for content in answer["content"].values():
            if "x-events" in content:
                DESCRIBED.check_events(content, content["example"])
            else:
                DESCRIBED.check(content["schema"], content["example"])
        assert "x-request-id" in answer["headers"], status


@pytest.mark.parametrize(
    ("model", "example"),
    [("ChatCompletion", examples.CHAT_REPLY), ("ErrorReply", examples.error(400)), ("Modes", examples.MODES)],
)
def test_a_reply_field_that_is_not_described_is_refused(model: str, example: dict[str, Any]) -> None:
    schema = {"$ref": f"#/components/schemas/{model}"}
    DESCRIBED.check(schema, example)
    with pytest.raises(AssertionError, match="unheard"):
        DESCRIBED.check(schema, {**example, "unheard": 1})


@pytest.mark.parametrize(("operation", "name", "body"), BODIES, ids=[name for _, name, _ in BODIES])
async def test_every_request_example_is_served_as_described(
    served: Served, operation: Operation, name: str, body: dict[str, Any]
) -> None:
    path = operation.path
    if "{key_id}" in path:
        made = await served.http.post("/admin/keys", json={"tenant": "acme", "scopes": ["admin"]})
        served.http.headers["authorization"] = f"Bearer {made.json()['key']}"
        path = path.replace("{key_id}", made.json()["id"])
    answer = await served.http.request(operation.method, path, json=body)
    has_no_rollout = operation.name == "change_rollout"
    assert answer.status_code == (404 if has_no_rollout else min(operation.answers)), answer.text
    DESCRIBED.check_answer(operation.method, operation.path, answer)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream", [True, False])
async def test_every_field_that_an_answer_can_have_is_described(served: Served, path: str, stream: bool) -> None:
    is_chat = path == "/v1/chat/completions"
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]} if is_chat else {"prompt": "hi"}
    body |= {"logprobs": True, "top_logprobs": 3} if is_chat else {"logprobs": 3}
    body |= {"return_token_ids": True, "n": 2, "adaserve": {"slo": {"tpot_ms": 50}}, "unheard": 1}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = await served.http.post(path, json=body)
    DESCRIBED.check_answer("post", path, answer)
    assert "x-adaserve-warning" in answer.headers
    resumed = await served.http.get(f"/v1/streams/{served.verifier.requests[0].request}")
    DESCRIBED.check_answer("get", "/v1/streams/{stream}", resumed)


async def test_errors_are_described_where_they_occur(served: Served) -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}]}
    unknown = "/v1/streams/" + "0" * 32
    for method, path, asked, options, status in [
        ("post", "/v1/completions", "/v1/completions", {"json": {}}, 400),
        ("post", "/v1/completions", "/v1/completions", {"content": b"{}"}, 415),
        ("post", "/tokenize", "/tokenize", {"content": bytes(1 << 21)}, 413),
        ("get", "/v1/models/{model}", "/v1/models/other", {}, 404),
        ("get", "/v1/streams/{stream}", unknown, {}, 404),
        ("delete", "/v1/streams/{stream}", unknown, {}, 404),
        ("put", "/admin/mode", "/admin/mode", {"json": {"mode": "turbo"}}, 400),
    ]:
        answer = await served.http.request(method, asked, **options)
        assert answer.status_code == status
        DESCRIBED.check_answer(method, path, answer)
    key = {"idempotency-key": "k"}
    await served.http.post("/v1/chat/completions", json=chat, headers=key)
    answer = await served.http.post("/v1/chat/completions", json={**chat, "seed": 1}, headers=key)
    assert answer.status_code == 422
    DESCRIBED.check_answer("post", "/v1/chat/completions", answer)
    served.answers(Reply([[5]], finish="error", error="it went wrong"))
    for stream in (False, True):
        answer = await served.http.post("/v1/chat/completions", json={**chat, "stream": stream})
        assert answer.status_code == (200 if stream else 500)
        DESCRIBED.check_answer("post", "/v1/chat/completions", answer)


async def test_what_only_looks_is_described(served: Served) -> None:
    looks = ["/", "/live", "/ready", "/metrics", "/version", "/openapi.json", "/v1/models"]
    looks += [f"/admin/{name}" for name in ("mode", "slo", "keys", "audit")]
    for path in looks:
        answer = await served.http.get(path)
        assert answer.status_code == 200
        DESCRIBED.check_answer("get", path, answer)
    DESCRIBED.check_answer("get", "/v1/models/{model}", await served.http.get("/v1/models/default"))
    for file in ("console.css", "nothing.js"):
        DESCRIBED.check_answer("get", "/console/{file}", await served.http.get(f"/console/{file}"))


async def test_keys_and_what_they_leave_behind_are_described(served: Served) -> None:
    made = await served.http.post("/admin/keys", json={"tenant": "acme", "scopes": ["inference", "admin"]})
    DESCRIBED.check_answer("post", "/admin/keys", made)
    key, path = made.json(), "/admin/keys/{key_id}"
    refused = await served.http.get("/v1/models")
    assert refused.status_code == 401
    DESCRIBED.check_answer("get", "/v1/models", refused)
    served.http.headers["authorization"] = f"Bearer {key['key']}"
    other = (await served.http.post("/admin/keys", json={"tenant": "acme"})).json()
    DESCRIBED.check_answer("delete", path, await served.http.delete(f"/admin/keys/{other['id']}"))
    DESCRIBED.check_answer("delete", path, await served.http.delete("/admin/keys/nobody"))
    DESCRIBED.check_answer("get", "/admin/keys", await served.http.get("/admin/keys"))
    audit = await served.http.get("/admin/audit", params={"limit": 5})
    assert [event["what"] for event in audit.json()["events"]] == ["key.create", "key.create", "key.revoke"]
    DESCRIBED.check_answer("get", "/admin/audit", audit)
    DESCRIBED.check_answer("get", "/admin/audit", await served.http.get("/admin/audit", params={"limit": 0}))


POLICY = """
classes: {chat: {tpot_ms: 50, objective: 0.9}, batch: {}}
tenants: {acme: {classes: [chat, batch], default: chat, tpot_ms_min: 40, max_tokens: 4, rpm: 100, tpm: 10000}}
schedules: [{class: chat, tenant: acme, cron: "* * * * *", tpot_ms: 45}]
service_tiers: {flex: batch}
rollout: {tenants: [acme], ramp: [0.5, 1.0]}
"""


async def test_what_a_policy_adds_to_answers_is_described(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    served.gateway.policies.current = load_policy(file)
    served.http.headers["x-adaserve-tenant"] = "acme"
    chat = {"messages": [{"role": "user", "content": "hi"}], "service_tier": "flex", "max_tokens": 9}
    for stream in (False, True):
        body = {**chat, "stream": stream, "adaserve": {"slo": {"tpot_ms": 5}, "padding": True}}
        answer = await served.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers.keys() >= {"x-adaserve-slo", "x-adaserve-clamped", "x-ratelimit-limit-tokens"}
        DESCRIBED.check_answer("post", "/v1/chat/completions", answer)
    for path in ("/admin/slo", "/admin/rollout", "/v1/models"):
        answer = await served.http.get(path)
        assert answer.status_code == 200, answer.text
        DESCRIBED.check_answer("get", path, answer)
    order = await served.http.put("/admin/rollout", json={"halt": True})
    DESCRIBED.check_answer("put", "/admin/rollout", order)
    unknown = await served.http.get("/v1/models", headers={"x-adaserve-tenant": "nobody"})
    assert unknown.status_code == 403
    DESCRIBED.check_answer("get", "/v1/models", unknown)
