"""The OpenAPI 3.1 document, made from the tables of operations and the schemas of requests and replies."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.gateway import unsupported
from services.gateway.description import examples, replies
from services.gateway.description.browsing import BROWSING
from services.gateway.description.operating import OPERATING
from services.gateway.description.operation import (
    REQUEST_ID_HEADER,
    RETRY_HEADERS,
    SECURITY_SCHEMES,
    Answer,
    Content,
    Operation,
)
from services.gateway.description.serving import SERVING
from services.gateway.schemas import ChatRequest, CompletionRequest, Message

Json = dict[str, Any]

OPERATIONS = (*SERVING, *OPERATING, *BROWSING)
"""Every route. One that is not here, or is here and nowhere else, fails a test."""

REFERENCE = "#/components/schemas/{model}"
NEUTRAL = {
    ChatRequest: unsupported.NEUTRAL,
    CompletionRequest: unsupported.NEUTRAL,
    Message: unsupported.NEUTRAL_MESSAGE,
}


def document(version: str) -> Json:
    """The whole of it."""
    references, schemas = _schemas()
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AdaServe",
            "version": version,
            "description": "OpenAI's completion endpoints with a speed that each request asks for. Every answer "
            "other than success has OpenAI's error shape; unknown paths are 404, other methods 405 with `allow`.",
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": SECURITY_SCHEMES},
    }


class _References:
    """Where each model's schema stands in the document."""

    def __init__(self, found: Mapping[type[Any], Json]) -> None:
        self._found = found

    def of(self, schema: type[BaseModel] | Json) -> Json:
        return dict(schema) if isinstance(schema, dict) else self._found[schema]


def _schemas() -> tuple[_References, Json]:
    asked = {operation.body for operation in OPERATIONS if operation.body is not None}
    told: set[type[BaseModel]] = {replies.ErrorReply}
    for operation in OPERATIONS:
        for answer in operation.answers.values():
            for content in answer.content.values():
                told.update(model for models in content.events.values() for model in models)
                if not isinstance(content.schema, dict):
                    told.add(content.schema)
    models = sorted(asked | told, key=lambda model: model.__name__)
    found, schemas = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE)
    definitions: Json = schemas["$defs"]
    for model, neutral in NEUTRAL.items():
        _add_neutral(definitions[model.__name__], neutral)
    return _References({model: reference for (model, _), reference in found.items()}), definitions


def _add_neutral(schema: Json, neutral: dict[str, tuple[Any, ...]]) -> None:
    """Fields that are known and not built take their neutral values only."""
    for name, values in neutral.items():
        schema["properties"].setdefault(name, {"enum": list(values), "description": "not supported yet"})


def _operation(operation: Operation, references: _References) -> Json:
    answers = {str(status): _answer(answer, references) for status, answer in operation.answers.items()}
    for status in operation.errors:
        answers[str(status)] = _error(status, references)
    found: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": dict(sorted(answers.items())),
        "security": [] if operation.scope is None else [{operation.scope.value: []}],
    }
    if operation.body is not None:
        named = {name: {"value": value} for name, value in operation.body_examples.items()}
        body = {"schema": references.of(operation.body), "examples": named}
        found["requestBody"] = {"required": True, "content": {"application/json": body}}
    return found


def _parameters(operation: Operation) -> list[Json]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": example}
        for name, example in operation.path_examples.items()
    ]
    in_query = [{"name": name, "in": "query", **about} for name, about in operation.query.items()]
    in_header = [{"name": name, "in": "header", **about} for name, about in operation.headers.items()]
    return in_path + in_query + in_header


def _answer(answer: Answer, references: _References) -> Json:
    found: Json = {
        "description": answer.description,
        "headers": {"x-request-id": REQUEST_ID_HEADER, **answer.headers},
        "content": {media: _content(content, references) for media, content in answer.content.items()},
    }
    return {**found, "links": answer.links} if answer.links else found


def _content(content: Content, references: _References) -> Json:
    found: Json = {"schema": references.of(content.schema), "example": content.example}
    if content.events:  # of their data, by the event's name: OpenAPI 3.1 has no words for that
        found["x-events"] = {
            name: {"anyOf": [references.of(model) for model in models]} for name, models in content.events.items()
        }
    return found


def _error(status: int, references: _References) -> Json:
    return _answer(
        Answer(
            description=HTTPStatus(status).phrase,
            content={"application/json": Content(schema=replies.ErrorReply, example=examples.error(status))},
            headers=RETRY_HEADERS if status in (429, 503) else {},
        ),
        references,
    )
