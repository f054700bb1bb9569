"""What browsers are answered: the console's page and its files."""

from __future__ import annotations

from dataclasses import replace

from services.gateway.description.operation import Answer, Content, Json, Operation
from services.gateway.static_files import HEADERS, PREFIX, TYPES

_KNOWN: Json = {"If-None-Match": {"description": "the `etag` that is known", "schema": {"type": "string"}}}
_HEADERS: Json = {
    **{name: {"required": True, "schema": {"type": "string", "const": value}} for name, value in HEADERS.items()},
    "etag": {"required": True, "schema": {"type": "string", "pattern": '^"[0-9a-f]{32}"$'}},
}
_UNCHANGED = Answer(description="As it was", content={}, headers=_HEADERS)


def _file(*media_types: str) -> Answer:
    content = {media: Content(schema={"type": "string"}, example="") for media in media_types}
    return Answer(description="The file", content=content, headers=_HEADERS)


_FILES = (
    Operation(
        method="get",
        path="/",
        name="console",
        scope=None,
        summary="The operator's console, a page that asks the other paths with the key typed into it",
        headers=_KNOWN,
        answers={200: _file(TYPES[".html"]), 304: _UNCHANGED},
        errors=(500,),
    ),
    Operation(
        method="get",
        path=f"{PREFIX}{{file}}",
        name="console_file",
        scope=None,
        summary="A file of the console",
        headers=_KNOWN,
        path_examples={"file": "console.css"},
        answers={200: _file(*TYPES.values()), 304: _UNCHANGED},
        errors=(404, 500),
    ),
)
BROWSING = _FILES + tuple(
    replace(
        operation,
        method="head",
        name=f"{operation.name}_head",
        summary=f"{operation.summary}; its headers alone",
    )
    for operation in _FILES
)
