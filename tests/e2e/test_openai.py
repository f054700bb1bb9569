"""The `openai` client against the running system."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from bench.local import LocalStack

MESSAGES = [{"role": "user", "content": "def add(a, b):"}]
PROMPT = "import os\nimport sys\n\n\ndef main("


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=60) as connected:
        yield connected


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="default", messages=MESSAGES, max_tokens=24, seed=1)  # type: ignore[arg-type]
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage is not None
    assert 1 <= answer.usage.completion_tokens <= 24
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_streamed_chat_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    asked = {"model": "default", "messages": MESSAGES, "max_tokens": 32, "seed": 5, "temperature": 0.8}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="default", prompt=PROMPT, max_tokens=16, temperature=0)
    assert answer.choices[0].text
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_streamed_completion_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="default", prompt=PROMPT, max_tokens=40, temperature=0)
    chunks = client.completions.create(model="default", prompt=PROMPT, max_tokens=40, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


def test_stop_strings_end_the_text_before_them(client: openai.OpenAI) -> None:
    full = client.completions.create(model="default", prompt=PROMPT, max_tokens=40, temperature=0).choices[0].text
    stop = full[len(full) // 2 :][:3]
    cut = client.completions.create(model="default", prompt=PROMPT, max_tokens=40, temperature=0, stop=[stop])
    assert cut.choices[0].text == full[: full.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_models(client: openai.OpenAI) -> None:
    assert "target" in [model.id for model in client.models.list()]


def test_bad_input_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.completions.create(model="default", prompt=PROMPT, temperature=-1)
    with pytest.raises(openai.BadRequestError, match="gpt-none"):
        client.completions.create(model="gpt-none", prompt=PROMPT)
