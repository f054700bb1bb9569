"""One entry of the table of what the gateway answers, and what many entries share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from services.gateway.description import replies
from services.gateway.schemas import MAX_TARGET_MS
from shared.api_keys import Scope as KeyScope

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
RESUME_HEADERS: Json = {
    "Last-Event-ID": {
        "description": "the event after which to go on, `<request>:<position>:<mark>`; empty: the beginning",
        "schema": {"type": "string", "pattern": "^$|^[0-9a-f]{32}:[0-9]{1,8}:[0-9a-f]{8}$"},
    }
}

AFTER: Json = {
    "after": {
        "schema": {"type": "string", "pattern": "^[0-9]{1,19}-[0-9]{1,19}$"},
        "example": "1790000000123-0",
    }
}

# The key is no parameter: OpenAPI has readers ignore one that is called `authorization`.
SECURITY_SCHEMES: Json = {
    KeyScope.INFERENCE.value: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "sk-<key id>-<secret>",
        "description": "An API key of the scope inference. Nobody is asked for one while the gateway knows no key "
        "and listens on loopback.",
    },
    KeyScope.ADMIN.value: {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key of the scope admin, or the gateway's ADASERVE_ADMIN_KEY. Nobody is asked for "
        "one while there is neither and the gateway listens on loopback.",
    },
}
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
    """One method of one path. ``errors`` are the statuses that carry the error shape.

    ``scope`` is what a key must have for it; None where nobody is asked for a key.
    """

    method: str
    path: str
    name: str
    summary: str
    answers: Mapping[int, Answer]
    scope: KeyScope | None
    errors: tuple[int, ...] = ()
    body: type[BaseModel] | None = None
    body_examples: Mapping[str, Json] = field(default_factory=dict)
    headers: Json = field(default_factory=dict)
    query: Json = field(default_factory=dict)
    path_examples: Mapping[str, str] = field(default_factory=dict)


def in_json(
    schema: type[BaseModel], example: Any, *, headers: Json | None = None, links: Json | None = None
) -> Answer:
    return Answer(
        description="The answer",
        content={"application/json": Content(schema=schema, example=example)},
        headers=headers or {},
        links=links or {},
    )


def in_text(status: str, media: str = PLAIN) -> Answer:
    text = Content(schema={"type": "string"}, example=status)
    return Answer(description="Text", content={media: text})


def of_completion(
    whole: type[BaseModel], chunk: type[BaseModel], example: Any, events: str, *, description: str
) -> Answer:
    return Answer(
        description=description,
        content={
            "application/json": Content(schema=whole, example=example),
            EVENT_STREAM: of_events(chunk, example=events),
        },
        headers={**STREAM_HEADERS, **WARNING_HEADERS, **EVENT_HEADERS, **TERMS_HEADERS, **LIMIT_HEADERS},
        links=STREAM_LINKS,
    )


def of_events(*chunks: type[BaseModel], example: str) -> Content:
    return Content(
        schema=EVENT,
        example=example,
        events={"message": chunks, "error": (replies.ErrorReply,)},
    )


BODY_ERRORS = (400, 413, 415)
KEY_ERRORS = (401, 403)
ADMIN_ERRORS = (401, 403, 500)
SUBMIT_ERRORS = (*BODY_ERRORS, *KEY_ERRORS, 409, 422, 429, 500, 502, 503, 504)
SUBMIT_HEADERS = {**SLO_HEADERS, **TENANT_HEADERS, **KEY_HEADERS}
EITHER = "Whole, or with `stream` as events"
