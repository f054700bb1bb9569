"""A JSON body without one of its members, or with another one; every other byte as it was. Pure."""

from __future__ import annotations

import json
import re

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def without(body: bytes, name: str) -> bytes:
    """``body`` is a JSON object, in whichever encoding JSON may have."""
    encoding = json.detect_encoding(body)
    text = body.decode(encoding)
    members = _members(text)
    kept = [index for index, member in enumerate(members) if member[0] != name]
    if len(kept) == len(members):
        return body
    last = kept[-1] if kept else -1
    pieces, begun = [], 0
    for index, (key, start, _) in enumerate(members[: last + 1]):
        if key == name:  # with the comma after it
            pieces.append(text[begun:start])
            begun = members[index + 1][1]
    if last + 1 < len(members):  # those at the end go with the comma before them
        pieces.append(text[begun : members[last][2] if kept else members[0][1]])
        begun = members[-1][2]
    return "".join([*pieces, text[begun:]]).encode(encoding)


def with_number(body: bytes, name: str, value: int) -> bytes:
    """The object with this member at its end, which it does not have yet."""
    encoding = json.detect_encoding(body)
    text = body.decode(encoding)
    members = _members(text)
    at = members[-1][2] if members else text.index("{") + 1
    comma = ", " if members else ""
    return f'{text[:at]}{comma}"{name}": {value}{text[at:]}'.encode(encoding)


def _members(text: str) -> list[tuple[str, int, int]]:
    """Name, beginning of the name, and end of the value of each."""
    members = []
    at = _after_space(text, _after_space(text, 0) + 1)
    while text[at] != "}":
        start = at
        name, at = _DECODER.raw_decode(text, at)
        _, at = _DECODER.raw_decode(text, _after_space(text, _after_space(text, at) + 1))
        members.append((name, start, at))
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return members


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()
