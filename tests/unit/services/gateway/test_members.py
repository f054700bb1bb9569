"""A body without one member, and a stream in whole events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.members import with_number, without
from services.gateway.relayed import MAX_EVENT_BYTES, Relayed, tokens_of


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b'{"adaserve": {"slo": {}}}', b"{}"),
        (b'{ "adaserve" : 1 }', b"{  }"),
        (b'{"a":1, "adaserve": {"x": [1, {"y": "}"}]}, "b" :  2.50}', b'{"a":1, "b" :  2.50}'),
        (b'{"a": 1e3,\n "adaserve": null\n}', b'{"a": 1e3\n}'),
        (b'{"adaserve": null,  "a": "\\u00e4\xc3\xa4"}', b'{"a": "\\u00e4\xc3\xa4"}'),
        (b'{"adaserve": 1, "a": 1, "adaserve": 2, "adaserve": 3}', b'{"a": 1}'),
        (b'{"a": {"adaserve": 1}, "b": "adaserve"}', b'{"a": {"adaserve": 1}, "b": "adaserve"}'),
        (b'{"ad\\u0061serve": 1, "a": 2}', b'{"a": 2}'),
        (b" {} ", b" {} "),
        ('{"adaserve": 1, "a": "é"}'.encode("utf-16"), '{"a": "é"}'.encode("utf-16")),
    ],
)
def test_the_member_goes_and_every_other_byte_stays(body: bytes, left: bytes) -> None:
    assert without(body, "adaserve") == left


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.dictionaries(st.sampled_from(["adaserve", "a", "b", "adaserv", ""]) | st.text(max_size=5), VALUES)


@given(content=MEMBERS, indent=st.none() | st.integers(0, 2), ascii_only=st.booleans())
def test_what_is_left_means_the_same(content: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    body = json.dumps(content, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    left = json.loads(without(body, "adaserve").decode("utf-8", "surrogatepass"))
    assert left == {name: value for name, value in content.items() if name != "adaserve"}
    assert without(without(body, "adaserve"), "adaserve") == without(body, "adaserve")


def chunk(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


STREAM = b"".join([
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    chunk("a"), b": keep-alive\r\n\r\n", chunk("b"), b'data: {"choices":[{"text":"c"}]}\r\n\r\n',
    b'event: x\ndata: nonsense\n\ndata: [1]\n\ndata: {"choices":[5],"usage":5}\n\n', b"data: [DONE]\n\n",
])  # fmt: skip


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_events_pass_whole_and_unchanged_however_they_come(cuts: list[int]) -> None:
    relayed, passed = Relayed(), []
    for start, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
        passed.append(relayed.feed(STREAM[start:end], float(start)))
        assert passed[-1][-1:] in (b"", b"\n")
    assert b"".join(passed) == STREAM
    assert (relayed.is_done, relayed.is_overlong, relayed.num_tokens) == (True, False, 3)


def test_tokens_are_timed_and_counted_by_usage_where_it_is_told() -> None:
    relayed = Relayed()
    assert relayed.attained(10, 10) == []
    for at, text in ((100, "a"), (120, "b"), (200, "c")):
        relayed.feed(chunk(text), at)
    assert relayed.num_tokens == 3
    judged = [relayed.attained(*targets) for targets in ((50, 100), (49, 100), (50, 99))]
    assert judged == [[True], [False], [False]]
    relayed.feed(b'data: {"choices":[],"usage":{"completion_tokens":11}}\n\n', 210)
    assert relayed.num_tokens == 11
    assert relayed.attained(10, 100) == [True]
    assert not relayed.is_done


def test_each_of_several_choices_is_judged_by_its_own_tokens() -> None:
    relayed = Relayed()
    for at in range(0, 500, 100):  # two choices side by side, a token of each every 100 ms; the second one stalls
        for index in range(2):
            text = b'data: {"choices":[{"index":%d,"delta":{"content":"a"}}]}\n\n' % index
            relayed.feed(text, at + 300 * index * (at == 400))
    assert relayed.attained(100, 100) == [True, False]
    assert relayed.attained(175, 100) == [True, True]
    assert relayed.attained(99, 100) == [False, False]
    relayed.feed(b'data: {"choices":[],"usage":{"completion_tokens":20}}\n\n', 800)  # ten each
    assert relayed.attained(400 / 9, 100) == [True, False]


def test_an_event_without_an_end_is_noticed() -> None:
    relayed = Relayed()
    assert relayed.feed(b"x" * (MAX_EVENT_BYTES + 1), 0) == b""
    assert relayed.is_overlong


def test_a_carriage_return_alone_ends_lines_too() -> None:
    relayed = Relayed()
    assert relayed.feed(b"data: [DONE]\r\rdata", 0) == b"data: [DONE]\r\r"
    assert relayed.is_done


@pytest.mark.parametrize(
    ("body", "made"),
    [
        (b"{}", b'{"n": 5}'),
        (b' { "a" : 1 }\n', b' { "a" : 1, "n": 5 }\n'),
        ('{"a": "é"}'.encode("utf-16"), '{"a": "é", "n": 5}'.encode("utf-16")),
    ],
)
def test_a_member_is_added_and_every_other_byte_stays(body: bytes, made: bytes) -> None:
    assert with_number(body, "n", 5) == made


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        (b'{"usage": {"completion_tokens": 7}}', 7),
        (b'{"usage": {"completion_tokens": -7}}', None),
        (b'{"usage": {"completion_tokens": true}}', None),
        (b'{"usage": 3}', None),
        (b"[]", None),
        (b"not JSON", None),
    ],
)
def test_tokens_of_a_whole_answer(answer: bytes, tokens: int | None) -> None:
    assert tokens_of(answer) == tokens
