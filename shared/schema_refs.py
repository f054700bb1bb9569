"""Whether a JSON Schema refers to itself without end. Pure.

A schema that applies itself in place, by `$ref`, `allOf`, `anyOf` or `oneOf` alone, says nothing (JSON Schema
2020-12, 9.4.1); a grammar of it has no way on. Recursion through properties or items is another matter, and good.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

IN_PLACE = ("allOf", "anyOf", "oneOf")


def has_endless_ref(schema: Any) -> bool:
    """Whether some part of the schema comes back to itself in place."""
    done: set[int] = set()
    for start in _objects(schema):
        path: dict[int, Iterator[dict[str, Any]]] = {}  # by the object's identity, in the order of the visit
        waiting = [start]
        while waiting or path:
            if waiting:
                node = waiting.pop()
                if id(node) in path:
                    return True
                if id(node) not in done:
                    path[id(node)] = _applied(schema, node)
            if not path:
                continue
            last = next(reversed(path))
            following = next(path[last], None)
            if following is None:
                del path[last]
                done.add(last)
            else:
                waiting.append(following)
    return False


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _applied(schema: Any, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that hold for whatever ``node`` holds for, or one of which does."""
    found = [_target(schema, node.get("$ref"))]
    for name in IN_PLACE:
        members = node.get(name)
        found += members if isinstance(members, list) else ()
    return (value for value in found if isinstance(value, dict))


def _target(schema: Any, reference: Any) -> Any:
    """What a pointer within the schema names; None for any other reference."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = schema
    for step in unquote(reference[1:]).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found
