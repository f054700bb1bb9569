"""Padded streams: what is seen of an event's size, and that clients read them as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.padding import pad
from tests.unit.services.gateway.conftest import Served
from tests.unit.services.gateway.fake_verifier import Reply

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
ASKED: list[dict[str, Any]] = [
    {"adaserve": {"padding": True}},
    {"stream_options": {"include_obfuscation": True}},
    {"stream_options": {"include_obfuscation": False}, "adaserve": {"padding": True}},
]


@given(TEXTS, st.integers(16, 1024))
def test_an_event_fills_a_multiple_and_says_the_same(text: str, multiple: int) -> None:
    event = f"id: a\ndata: {json.dumps({'text': text}, ensure_ascii=False)}\n\n"
    padded = pad(event, "a", multiple)
    assert len(padded.encode()) % multiple == 0
    assert len(padded.encode()) - len(event.encode()) < multiple + 17
    told = json.loads(padded.split("data: ", 1)[1])
    told.pop("obfuscation")
    assert told == {"text": text}
    assert pad(event, "a", multiple) == padded


async def sizes(served: Served, body: dict[str, Any]) -> tuple[set[int], str]:
    """Of the events but `[DONE]`, and what was told."""
    content = {"prompt": "p", "max_tokens": 4, "stream": True, "seed": 1, **body}
    told = (await served.http.post("/v1/completions", json=content)).text
    *events, done = told.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    return {len(event.encode()) + 2 for event in events}, told


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("options", [{"padding_bytes": 512}])
async def test_all_events_of_a_padded_stream_have_one_size(
    served: Served, options: dict[str, Any], asked: dict[str, Any]
) -> None:
    served.answers(Reply([[70], [71, 72, 73], [74]]))
    found, told = await sizes(served, asked)
    assert found == {512}
    assert told.count('"obfuscation"') == 4
    again = await served.http.get(f"/v1/streams/{told[4:36]}")
    assert again.text == told


@pytest.mark.parametrize("options", [{"padding": True}])
async def test_a_gateway_that_pads_leaves_out_who_does_not_want_it(
    served: Served, options: dict[str, Any]
) -> None:
    served.answers(Reply([[70], [71, 72, 73], [74]]))
    assert all(size % 256 == 0 for size in (await sizes(served, {}))[0])
    assert "obfuscation" not in (await sizes(served, {"adaserve": {"padding": False}}))[1]
    assert "obfuscation" not in (await sizes(served, {"stream_options": {"include_obfuscation": False}}))[1]


async def test_the_openai_client_reads_a_padded_stream(served: Served) -> None:
    served.answers(Reply([[70], [71, 72, 73], [74]]))
    stream = await served.openai.completions.create(
        model="tiny", prompt="p", max_tokens=5, stream=True, extra_body={"adaserve": {"padding": True}}
    )
    text = "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])
    assert text == served.tokenizer.decode([70, 71, 72, 73, 74])
