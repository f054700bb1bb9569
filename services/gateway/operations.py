"""The table of what the gateway answers: one entry for each route, from which the OpenAPI document is made.

A route that is not here, or is here and nowhere else, fails a test; so does an example that its schema refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from services.gateway import examples
from services.gateway import reply_schemas as replies
from services.gateway.admin import ModeOrder, RolloutOrder
from services.gateway.keys_api import NewKey, Rotation
from services.gateway.schemas import MAX_TARGET_MS, ChatRequest, CompletionRequest
from services.gateway.tokenize_api import DetokenizeRequest, TokenizeRequest
from shared.health import PROMETHEUS_TEXT
from shared.topics import AUDIT_MAXLEN

Json = dict[str, Any]

EVENT_STREAM = "text/event-stream"
PLAIN = "text/plain; charset=utf-8"

TARGET = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TARGET_MS}
SLO_HEADERS = {
    f"{prefix}-{name}-ms": {"description": f"{name.upper()} target in ms; the body wins", "schema": TARGET}
    for prefix in ("x-slo", "x-llm-d-slo")
    for name in ("tpot", "ttft")
}
TENANT_HEADERS: Json = {
    "x-adaserve-tenant": {"description": "who asks, where there is a policy", "schema": {"type": "string"}}
}
KEY_HEADERS: Json = {
    "Idempotency-Key": {
        "description": "a repeated request with the same key and body is told the same answer",
        "schema": {"type": "string", "pattern": "^[ -~]{1,255}$", "minLength": 1, "maxLength": 255},
    }
}
ADMIN_HEADERS: Json = {
    "authorization": {
        "description": "`Bearer <key>` of the scope admin, where there is one",
        "schema": {"type": "string"},
    }
}
RESUME_HEADERS: Json = {
    "Last-Event-ID": {
        "description": "the event after which to go on, `<request>:<position>:<mark>`; empty: the beginning",
        "schema": {"type": "string", "pattern": "^$|^[0-9a-f]{32}:[0-9]{1,8}:[0-9a-f]{8}$"},
    }
}

KEY = {"authorization": {"description": "`Bearer sk-…`, where there are keys", "schema": {"type": "string"}}}
_TEXT: Json = {"schema": {"type": "string"}}
_COUNT: Json = {"schema": {"type": "string", "pattern": "^[0-9]+$"}}
TERMS_HEADERS: Json = {
    "x-adaserve-slo": {"description": "class and targets as they are served", **_TEXT},
    "x-adaserve-clamped": {"description": "what the policy has cut down, from what to what", **_TEXT},
    "x-adaserve-acceptance": {"schema": {"type": "string", "const": "typical"}},
    "x-adaserve-arm": {"schema": {"type": "string", "enum": ["treatment", "control"]}},
}
LIMIT_HEADERS: Json = {
    f"x-ratelimit-{name}-{unit}": _TEXT if name == "reset" else _COUNT
    for name in ("limit", "remaining", "reset")
    for unit in ("requests", "tokens")
}

REQUEST_ID_HEADER: Json = {
    "description": "the client's own, if it is 1 to 128 letters, digits, `_ . : -`; else one that is made",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$"},
}
STREAM_HEADERS: Json = {
    "x-adaserve-stream": {
        "description": "names for /v1/streams, one for each choice",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{replies.REQUEST_ID}(, {replies.REQUEST_ID})*$"},
    },
}
WARNING_HEADERS: Json = {
    "x-adaserve-warning": {"description": "fields that are unknown and ignored", "schema": {"type": "string"}},
}
EVENT_HEADERS: Json = {
    "cache-control": {"schema": {"type": "string", "const": "no-cache"}},
    "x-accel-buffering": {"schema": {"type": "string", "const": "no"}},
}
EVENT: Json = {
    "description": "One server-sent event; the last one's data is `[DONE]`. `x-events` describes the others' data",
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9a-f]{32}:[0-9]+:[0-9a-f]{8}$"},
        "event": {"type": "string", "enum": ["message", "error"]},
        "retry": {"type": "integer", "minimum": 0, "description": "ms"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["data"],
    "additionalProperties": False,
}
STREAM_LINKS: Json = {
    name: {"operationId": name, "parameters": {"stream": "$response.header.x-adaserve-stream"}}
    for name in ("resume", "cancel")
}
TEXT_LINKS: Json = {
    "detokenize": {"operationId": "detokenize", "requestBody": {"tokens": "$response.body#/tokens"}}
}
RETRY_HEADERS: Json = {
    "retry-after": {
        "description": "seconds, rounded up",
        "schema": {"type": "string", "pattern": "^[1-9][0-9]*$"},
    },
    "retry-after-ms": {"schema": {"type": "string", "pattern": "^[1-9][0-9]*$"}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A body of one media type. ``events``: of a stream, the schemas of its events' data by event name."""

    schema: type[BaseModel] | Json
    example: Any
    events: Mapping[str, tuple[type[BaseModel], ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What comes under one status; ``headers`` beside `x-request-id`, which every answer has."""

    description: str
    content: Mapping[str, Content]
    headers: Json = field(default_factory=dict)
    links: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. ``errors`` are the statuses that carry the error shape."""

    method: str
    path: str
    name: str
    summary: str
    answers: Mapping[int, Answer]
    errors: tuple[int, ...] = ()
    body: type[BaseModel] | None = None
    body_examples: Mapping[str, Json] = field(default_factory=dict)
    headers: Json = field(default_factory=dict)
    query: Json = field(default_factory=dict)
    path_examples: Mapping[str, str] = field(default_factory=dict)


def _json(
    schema: type[BaseModel], example: Any, *, headers: Json | None = None, links: Json | None = None
) -> Answer:
    return Answer(
        description="The answer",
        content={"application/json": Content(schema=schema, example=example)},
        headers=headers or {},
        links=links or {},
    )


def _plain(status: str, media: str = PLAIN) -> Answer:
    text = Content(schema={"type": "string"}, example=status)
    return Answer(description="Text", content={media: text})


def _completion(
    whole: type[BaseModel], chunk: type[BaseModel], example: Any, events: str, *, description: str
) -> Answer:
    return Answer(
        description=description,
        content={
            "application/json": Content(schema=whole, example=example),
            EVENT_STREAM: _events(chunk, example=events),
        },
        headers={**STREAM_HEADERS, **WARNING_HEADERS, **EVENT_HEADERS, **TERMS_HEADERS, **LIMIT_HEADERS},
        links=STREAM_LINKS,
    )


def _events(*chunks: type[BaseModel], example: str) -> Content:
    return Content(
        schema=EVENT,
        example=example,
        events={"message": chunks, "error": (replies.ErrorReply,)},
    )


BODY_ERRORS = (400, 413, 415)
KEY_ERRORS = (401, 403)
ADMIN_ERRORS = (401, 403, 500)
SUBMIT_ERRORS = (*BODY_ERRORS, *KEY_ERRORS, 409, 422, 429, 500, 502, 503, 504)
CALLER_HEADERS = {**KEY, **TENANT_HEADERS}
SUBMIT_HEADERS = {**SLO_HEADERS, **CALLER_HEADERS, **KEY_HEADERS}
EITHER = "Whole, or with `stream` as events"

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        name="chat",
        summary="Complete a chat through the model's template",
        body=ChatRequest,
        body_examples=examples.CHATS,
        headers=SUBMIT_HEADERS,
        answers={
            200: _completion(
                replies.ChatCompletion,
                replies.ChatCompletionChunk,
                examples.CHAT_REPLY,
                examples.CHAT_EVENTS,
                description=EITHER,
            )
        },
        errors=SUBMIT_ERRORS,
    ),
    Operation(
        method="post",
        path="/v1/completions",
        name="complete",
        summary="Complete a text or token ids",
        body=CompletionRequest,
        body_examples=examples.COMPLETIONS,
        headers=SUBMIT_HEADERS,
        answers={
            200: _completion(
                replies.Completion,
                replies.CompletionChunk,
                examples.COMPLETION_REPLY,
                examples.COMPLETION_EVENTS,
                description=EITHER,
            )
        },
        errors=SUBMIT_ERRORS,
    ),
    Operation(
        method="get",
        path="/v1/streams/{stream}",
        name="resume",
        summary="Take a stream up again, from its beginning or after an event",
        headers={**CALLER_HEADERS, **RESUME_HEADERS},
        path_examples={"stream": examples.STREAM},
        answers={
            200: Answer(
                description="The rest of the stream, in the shape of the endpoint that the request came to",
                content={
                    EVENT_STREAM: _events(
                        replies.ChatCompletionChunk, replies.CompletionChunk, example=examples.CHAT_EVENTS
                    )
                },
                headers={**STREAM_HEADERS, **EVENT_HEADERS, **TERMS_HEADERS},
            )
        },
        errors=(400, *KEY_ERRORS, 404, 409, 500, 503),
    ),
    Operation(
        method="delete",
        path="/v1/streams/{stream}",
        name="cancel",
        summary="Cancel a request",
        headers=CALLER_HEADERS,
        path_examples={"stream": examples.STREAM},
        answers={200: _json(replies.CancelledStream, examples.CANCELLED)},
        errors=(*KEY_ERRORS, 404, 413, 500, 503),
    ),
    Operation(
        method="post",
        path="/tokenize",
        name="tokenize",
        summary="The token ids of a prompt, or of messages through the chat template",
        body=TokenizeRequest,
        body_examples=examples.TOKENIZE,
        answers={200: _json(replies.Tokens, examples.TOKENS, headers=WARNING_HEADERS, links=TEXT_LINKS)},
        headers=CALLER_HEADERS,
        errors=(*BODY_ERRORS, *KEY_ERRORS, 500),
    ),
    Operation(
        method="post",
        path="/detokenize",
        name="detokenize",
        summary="The text of token ids, special tokens included",
        body=DetokenizeRequest,
        body_examples=examples.DETOKENIZE,
        answers={200: _json(replies.Detokenized, {"prompt": "import os"}, headers=WARNING_HEADERS)},
        headers=CALLER_HEADERS,
        errors=(*BODY_ERRORS, *KEY_ERRORS, 500),
    ),
    Operation(
        method="get",
        path="/v1/models",
        name="models",
        summary="The one served model, with the SLO classes on offer",
        headers=CALLER_HEADERS,
        answers={200: _json(replies.ModelList, {"object": "list", "data": [examples.MODEL]})},
        errors=(*KEY_ERRORS, 500),
    ),
    Operation(
        method="get",
        path="/v1/models/{model}",
        name="model",
        summary="The served model by its name, or as `default`",
        headers=CALLER_HEADERS,
        path_examples={"model": "default"},
        answers={200: _json(replies.Model, examples.MODEL)},
        errors=(*KEY_ERRORS, 404, 500),
    ),
    Operation(
        method="get",
        path="/live",
        name="live",
        summary="Whether the process can do its work; never asks Redis",
        answers={200: _plain("ok\n"), 503: _plain("no\n")},
        errors=(500,),
    ),
    Operation(
        method="get",
        path="/ready",
        name="ready",
        summary="Whether a request would be served now",
        answers={200: _plain("ok\n"), 503: _plain("no\n")},
        errors=(500,),
    ),
    Operation(
        method="get",
        path="/metrics",
        name="metrics",
        summary="Figures for Prometheus",
        answers={200: _plain(examples.METRICS, PROMETHEUS_TEXT)},
        errors=(500,),
    ),
    Operation(
        method="get",
        path="/version",
        name="version",
        summary="The server's version",
        answers={200: _json(replies.Version, {"version": "0.1.0"})},
        errors=(500,),
    ),
    Operation(
        method="get",
        path="/openapi.json",
        name="document",
        summary="This document",
        answers={200: _json(replies.Document, {"openapi": "3.1.0", "info": {}, "paths": {}})},
        errors=(500,),
    ),
    Operation(
        method="get",
        path="/admin/mode",
        name="modes",
        summary="Operators' orders, and how every verifier decodes now",
        headers=ADMIN_HEADERS,
        answers={200: _json(replies.Modes, examples.MODES)},
        errors=(*ADMIN_ERRORS, 503),
    ),
    Operation(
        method="put",
        path="/admin/mode",
        name="order",
        summary="Set the verification mode of the cell, a tenant or a class",
        body=ModeOrder,
        body_examples=examples.ORDERS,
        headers=ADMIN_HEADERS,
        answers={200: _json(replies.Modes, examples.MODES)},
        errors=(*BODY_ERRORS, *ADMIN_ERRORS, 503),
    ),
    Operation(
        method="get",
        path="/admin/slo",
        name="promises",
        summary="The policy in force, and what its classes promise now",
        headers=ADMIN_HEADERS,
        answers={200: _json(replies.Promises, examples.PROMISES)},
        errors=ADMIN_ERRORS,
    ),
    Operation(
        method="get",
        path="/admin/rollout",
        name="rollout",
        summary="Where the policy's staged introduction stands",
        headers=ADMIN_HEADERS,
        answers={200: _json(replies.RolloutStage, examples.ROLLOUT)},
        errors=(*ADMIN_ERRORS, 404),
    ),
    Operation(
        method="put",
        path="/admin/rollout",
        name="change_rollout",
        summary="Go to a step of it, halt it, or let it go on",
        body=RolloutOrder,
        body_examples=examples.ROLLOUT_ORDERS,
        headers=ADMIN_HEADERS,
        answers={200: _json(replies.RolloutStage, examples.ROLLOUT)},
        errors=(*BODY_ERRORS, *ADMIN_ERRORS, 404, 503),
    ),
    Operation(
        method="get",
        path="/admin/keys",
        name="keys",
        summary="Every API key, without secrets",
        headers=ADMIN_HEADERS,
        answers={200: _json(replies.KeyList, {"keys": [examples.KEY], "age_s": 0.4})},
        errors=ADMIN_ERRORS,
    ),
    Operation(
        method="post",
        path="/admin/keys",
        name="create_key",
        summary="Make an API key; its secret is told this once",
        body=NewKey,
        body_examples=examples.NEW_KEYS,
        headers=ADMIN_HEADERS,
        answers={201: _json(replies.KeyWithSecret, examples.KEY_WITH_SECRET)},
        errors=(*BODY_ERRORS, *ADMIN_ERRORS, 409, 503),
    ),
    Operation(
        method="delete",
        path="/admin/keys/{key_id}",
        name="revoke_key",
        summary="Revoke an API key",
        path_examples={"key_id": examples.KEY["id"]},
        headers=ADMIN_HEADERS,
        answers={200: _json(replies.Key, examples.REVOKED_KEY)},
        errors=(*ADMIN_ERRORS, 404, 409, 413, 503),
    ),
    Operation(
        method="post",
        path="/admin/keys/{key_id}/rotate",
        name="rotate_key",
        summary="A new secret; those before go on for a while",
        body=Rotation,
        body_examples={"a day": {"grace": "24h"}},
        path_examples={"key_id": examples.KEY["id"]},
        headers=ADMIN_HEADERS,
        answers={200: _json(replies.KeyWithSecret, examples.KEY_WITH_SECRET)},
        errors=(*BODY_ERRORS, *ADMIN_ERRORS, 404, 409, 503),
    ),
    Operation(
        method="get",
        path="/admin/audit",
        name="audit",
        summary="The last changes by operators, oldest first",
        headers=ADMIN_HEADERS,
        query={
            "limit": {
                "schema": {"type": "integer", "minimum": 1, "maximum": AUDIT_MAXLEN, "default": 100},
                "example": 100,
            }
        },
        answers={200: _json(replies.AuditTrail, {"events": [examples.CHANGE]})},
        errors=(400, *ADMIN_ERRORS, 503),
    ),
)
