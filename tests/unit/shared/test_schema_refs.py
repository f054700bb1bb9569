"""Schemas that refer to themselves, with an end and without."""

from __future__ import annotations

from typing import Any

import pytest

from shared.schema_refs import has_endless_ref

A = {"$ref": "#/$defs/a"}
B = {"$ref": "#/$defs/b"}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/"} | {"": {"$ref": "#/"}},
        {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
        {"allOf": [{"$ref": "#"}]},
        {"oneOf": [{"oneOf": [{"$ref": "#"}]}]},
        {"$defs": {"a": A}, "$ref": "#/$defs/a"},
        {"$defs": {"a": B, "b": A}, "properties": {"x": A}},
        {"$defs": {"a": {"anyOf": [B]}, "b": {"allOf": [A]}}},
        {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]},
        {"type": "array", "items": {"$ref": "#/items"}, "minItems": 1},
        {"properties": {"a": {"$ref": "#/properties/b"}, "b": {"$ref": "#/properties/a"}}},
        {"$defs": {"a~b/c d": {"$ref": "#/$defs/a~0b~1c%20d"}}},
        {"allOf": [{"$ref": "#/allOf/0"}]},
    ],
)
def test_a_schema_that_comes_back_in_place_is_endless(schema: Any) -> None:
    assert has_endless_ref(schema)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"$ref": 5, "allOf": 5, "anyOf": [5, True]},
        {"$ref": "http://elsewhere/#"},
        {"$ref": "#/nowhere"},
        {"$ref": "#/allOf/9", "allOf": [{}]},
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"type": "array", "items": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
        {"$defs": {"a": {"items": B}, "b": {"properties": {"x": A}}}, "allOf": [A, B, A]},
        {"$defs": {"a": {"type": "null"}}, "anyOf": [A, A], "oneOf": [A]},
        {"const": {"$ref": "#"}},
    ],
)
def test_any_other_is_not(schema: Any) -> None:
    assert not has_endless_ref(schema)


def test_a_long_chain_takes_no_stack() -> None:
    chain = {f"a{number}": {"$ref": f"#/$defs/a{number + 1}"} for number in range(3000)}
    assert not has_endless_ref({"$defs": chain, "$ref": "#/$defs/a0"})
    assert has_endless_ref({"$defs": {**chain, "a3000": {"$ref": "#/$defs/a0"}}})
