"""The OpenAPI document as a judge of values and of whole answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs

Json = dict[str, Any]


class Described:
    """Of a gateway's document."""

    def __init__(self, document: Json) -> None:
        self.document = document

    def operation(self, method: str, path: str) -> Json:
        found: Json = self.document["paths"][path][method]
        return found

    def check(self, schema: Json, value: Any) -> None:
        """Raises AssertionError telling where a value is not as described."""
        whole = {**schema, "components": self.document["components"]}
        errors = jsonschema_rs.Draft202012Validator(whole, validate_formats=True).iter_errors(value)
        problems = [f"{error.instance_path}: {error.message}" for error in errors]
        assert not problems, problems

    def check_answer(self, method: str, path: str, answer: httpx.Response) -> None:
        """Status, media type, headers and body, the events of a stream one by one."""
        described = self.operation(method, path)["responses"][str(answer.status_code)]
        for name, header in described["headers"].items():
            assert name in answer.headers or not header.get("required"), name
            if name in answer.headers:
                self.check(header["schema"], answer.headers[name])
        media = answer.headers["content-type"]
        content = described["content"][media.removesuffix("; charset=utf-8") if "event" in media else media]
        if "x-events" in content:
            self.check_events(content, answer.text)
        else:
            self.check(
                content["schema"], answer.json() if "json" in answer.headers["content-type"] else answer.text
            )

    def check_events(self, described: Json, text: str) -> None:
        """Each event by its name; `[DONE]` at the end, unless that is an error."""
        found = list(events(text))
        for event in found:
            self.check(described["schema"], event)
            if event["data"] != "[DONE]":
                self.check(described["x-events"][event["event"]], json.loads(event["data"]))
        assert found[-1]["event"] == "error" or found[-1]["data"] == "[DONE]"


def events(text: str) -> Iterator[Json]:
    """The fields of each server-sent event."""
    for block in text.strip().split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if not line.startswith(":")]
        fields: Json = {"event": "message"} | {name: value for name, _, value in lines}
        if "data" in fields:
            yield fields | ({"retry": int(fields["retry"])} if "retry" in fields else {})
