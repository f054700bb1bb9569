"""LangChain's client for OpenAI against the running system."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from bench.local import LocalStack

MESSAGES = [SystemMessage("You write Python."), HumanMessage("def add(a, b):")]


def chat(stack: LocalStack, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model="default", base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=60, seed=5, **options
    )


def test_invoke(stack: LocalStack) -> None:
    answer = chat(stack, max_tokens=16).invoke(MESSAGES)
    assert isinstance(answer.content, str)
    assert answer.content
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    assert answer.usage_metadata is not None
    assert 1 <= answer.usage_metadata["output_tokens"] <= 16


def test_stream_says_what_invoke_says(stack: LocalStack) -> None:
    model = chat(stack, max_tokens=24, stream_usage=True, extra_body={"adaserve": {"slo": {"tpot_ms": 1000}}})
    chunks = list(model.stream(MESSAGES))
    assert len(chunks) > 1
    whole = model.invoke(MESSAGES)
    assert "".join(str(chunk.content) for chunk in chunks) == whole.content
    told = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata is not None]
    assert [usage["output_tokens"] for usage in told] == [whole.usage_metadata["output_tokens"]]  # type: ignore[index]


async def test_ainvoke_and_batch(stack: LocalStack) -> None:
    model = chat(stack, max_tokens=8, temperature=0)
    one = await model.ainvoke(MESSAGES)
    assert [answer.content for answer in await model.abatch([MESSAGES, MESSAGES])] == [one.content] * 2
