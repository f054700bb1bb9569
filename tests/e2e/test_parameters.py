"""Every parameter through the `openai` client: streamed and not, and with speculation what there is without."""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import jsonschema
import openai
import pydantic
import pytest

from bench.local import LocalStack

PROMPT = "import os\nimport sys\n\n\ndef main(arguments):\n    for name in"
MESSAGES = [{"role": "user", "content": "def add(a, b):"}]
PLAIN: dict[str, Any] = {"adaserve": {"speculation": {"enabled": False}}}

PERSON: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 12},
                "age": {"type": "integer", "minimum": 0, "maximum": 130},
                "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3},
            },
            "required": ["name", "age"],
            "additionalProperties": False,
        },
    },
}
# Fields the client knows stand in the first object, those of other open servers in the second.
PARAMETERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "temperature": ({"temperature": 0.0}, {}),
    "high temperature": ({"temperature": 1.7}, {}),
    "top_p": ({"top_p": 0.6}, {}),
    "seed": ({"seed": 2**63}, {}),
    "presence_penalty": ({"presence_penalty": 1.5}, {}),
    "negative presence_penalty": ({"presence_penalty": -1.5}, {}),
    "frequency_penalty": ({"frequency_penalty": 0.8}, {}),
    "logit_bias": ({"logit_bias": {"10": -100, "199": 3.5, "300": 3}}, {}),
    "forcing logit_bias": ({"logit_bias": {"300": 100}}, {}),
    "stop": ({"stop": ["\n", "):"]}, {}),
    "one stop": ({"stop": "e"}, {}),
    "n": ({"n": 3}, {}),
    "top_k": ({}, {"top_k": 3}),
    "min_p": ({}, {"min_p": 0.2}),
    "repetition_penalty": ({}, {"repetition_penalty": 1.4}),
    "min_tokens": ({"stop": "e"}, {"min_tokens": 12}),
    "stop_token_ids": ({}, {"stop_token_ids": [10, 199]}),
    "ignore_eos": ({}, {"ignore_eos": True}),
    "json_object": ({"max_tokens": 60}, {"response_format": {"type": "json_object"}}),
    "json_schema": ({"max_tokens": 120}, {"response_format": PERSON}),
    "json_schema and penalties": (
        {"max_tokens": 120, "presence_penalty": 0.7, "n": 2},
        {"response_format": PERSON, "min_tokens": 30},
    ),
    "all": (
        {
            "temperature": 0.9,
            "top_p": 0.95,
            "presence_penalty": 0.4,
            "frequency_penalty": 0.3,
            "logit_bias": {"32": 1.5},
            "stop": ["zzz"],
            "n": 2,
            "logprobs": 3,
        },
        {"top_k": 50, "min_p": 0.01, "repetition_penalty": 1.1, "min_tokens": 4},
    ),
}


@pytest.fixture(scope="module", autouse=True)
def speculative(stack: LocalStack) -> Iterator[None]:
    """By order: the watch over the draft may rightly object to what some parameters make of it."""
    order(stack, "speculative")
    yield
    order(stack, "auto")


def order(stack: LocalStack, mode: str) -> None:
    httpx.put(f"{stack.url}/admin/mode", json={"mode": mode}).raise_for_status()


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=60) as connected:
        yield connected


def complete(client: openai.OpenAI, fields: dict[str, Any], extra: dict[str, Any], **more: Any) -> Any:
    asked = {"seed": 11, "max_tokens": 24, "temperature": 0.8, **fields}
    return client.completions.create(
        model="default", prompt=PROMPT, **asked, extra_body={"return_token_ids": True, **extra}, **more
    )


def told(answer: Any) -> list[tuple[Any, ...]]:
    return [(c.index, c.text, c.token_ids, c.finish_reason, c.logprobs) for c in answer.choices]


@pytest.fixture(scope="module")
def wholes() -> dict[str, Any]:
    """Whole answers with speculation, by parameter, as far as they have been asked for."""
    return {}


@pytest.mark.parametrize("name", PARAMETERS)
def test_with_speculation_there_is_what_there_is_without(
    client: openai.OpenAI, wholes: dict[str, Any], name: str
) -> None:
    fields, extra = PARAMETERS[name]
    without = complete(client, fields, {**extra, **PLAIN})
    assert without.metrics["speculative_decoding"]["num_spec_steps"] == 0
    for _ in range(20):  # on a busy machine the ring may be late, and the verifier goes on without it
        answer = wholes[name] = complete(client, fields, extra)
        assert told(answer) == told(without)
        if answer.metrics["speculative_decoding"]["num_spec_steps"]:
            return
    raise AssertionError("no step has speculated")


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_stream_says_what_the_whole_answer_says(
    client: openai.OpenAI, wholes: dict[str, Any], name: str
) -> None:
    fields, extra = PARAMETERS[name]
    whole = wholes.get(name) or complete(client, fields, extra)
    texts: dict[int, str] = defaultdict(str)
    tokens: dict[int, list[int]] = defaultdict(list)
    reasons: dict[int, str] = {}
    usage = None
    for chunk in complete(client, fields, extra, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            tokens[choice.index] += getattr(choice, "token_ids", None) or []
            reasons |= {choice.index: choice.finish_reason} if choice.finish_reason else {}
    assert {c.index: c.text for c in whole.choices} == dict(texts)
    assert {c.index: c.token_ids for c in whole.choices} == dict(tokens)
    assert {c.index: c.finish_reason for c in whole.choices} == reasons
    assert usage == whole.usage


def test_parameters_do_what_they_are_for(client: openai.OpenAI) -> None:
    plain = complete(client, {}, {}).choices[0]
    forced = complete(client, *PARAMETERS["forcing logit_bias"]).choices[0]
    assert set(forced.token_ids) == {300}
    banned = {str(token): -100 for token in set(plain.token_ids)}
    assert not {*complete(client, {"logit_bias": banned}, {}).choices[0].token_ids} & {*plain.token_ids}
    greedy = {"temperature": 0.0}
    varied = complete(client, {**greedy, "frequency_penalty": 2.0, "presence_penalty": 2.0}, {}).choices[0]
    assert len(set(varied.token_ids)) > len(set(complete(client, greedy, {}).choices[0].token_ids))
    choices = complete(client, {"n": 4}, {}).choices
    alone = [complete(client, {"seed": 11 + index}, {}).choices[0] for index in range(4)]
    assert [choice.text for choice in choices] == [choice.text for choice in alone]


@pytest.mark.parametrize("top", [0, 5, 20])
def test_log_probabilities_of_a_chat(client: openai.OpenAI, top: int) -> None:
    asked: dict[str, Any] = {"model": "default", "messages": MESSAGES, "seed": 3, "max_tokens": 24}
    asked |= {"logprobs": True, "top_logprobs": top}
    whole = client.chat.completions.create(**asked)
    plain = client.chat.completions.create(**asked, extra_body=PLAIN)
    assert whole.choices == plain.choices
    [choice] = whole.choices
    assert choice.logprobs is not None
    content = choice.logprobs.content
    assert content is not None
    assert whole.usage is not None
    assert len(content) == whole.usage.completion_tokens
    assert all(entry.logprob <= 0 for entry in content)
    assert all(len(entry.top_logprobs) == top for entry in content)
    assert all(
        entry.top_logprobs[0].logprob >= entry.logprob and entry.top_logprobs[-1].logprob <= 0
        for entry in content
        if top
    )
    chunks = client.chat.completions.create(**asked, stream=True)
    streamed = [c.choices[0].logprobs.content for c in chunks if c.choices[0].logprobs is not None]
    assert [entry for part in streamed for entry in part or []] == content


def test_greedy_tokens_are_the_likeliest(client: openai.OpenAI) -> None:
    [choice] = complete(client, {"temperature": 0.0, "logprobs": 2}, {}).choices
    assert choice.logprobs.token_logprobs == [max(top.values()) for top in choice.logprobs.top_logprobs]
    assert choice.logprobs.text_offset[0] == 0
    for token, offset in zip(choice.logprobs.tokens, choice.logprobs.text_offset, strict=True):
        assert choice.text[offset:].startswith(token) or offset == len(choice.text)


class Person(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    name: Annotated[str, pydantic.Field(max_length=8)]
    is_member: bool


def test_the_clients_own_parsing_of_structured_output(client: openai.OpenAI) -> None:
    for seed in range(3):
        answer = client.chat.completions.parse(
            model="default", messages=MESSAGES, response_format=Person, seed=seed, max_tokens=80, temperature=1.0
        )
        [choice] = answer.choices
        assert choice.finish_reason == "stop"
        assert isinstance(choice.message.parsed, Person)


def test_structured_output_validates(client: openai.OpenAI) -> None:
    fields, extra = PARAMETERS["json_schema and penalties"]
    for choice in complete(client, fields, extra).choices:
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.text), PERSON["json_schema"]["schema"])


def test_a_prompt_that_was_there_before_is_cached(client: openai.OpenAI) -> None:
    prompt = f"# {uuid.uuid4()}\n" + PROMPT * 4  # not here before
    answers = [
        client.completions.create(model="default", prompt=prompt, seed=5, max_tokens=12, extra_body=extra)
        for extra in ({}, {}, PLAIN)
    ]
    cached = [answer.usage.prompt_tokens_details.cached_tokens for answer in answers]  # type: ignore[union-attr]
    assert cached[0] < 16
    assert answers[0].usage is not None
    assert cached[1] == cached[2] == (answers[0].usage.prompt_tokens - 1) // 16 * 16
    assert answers[0].choices == answers[1].choices == answers[2].choices
