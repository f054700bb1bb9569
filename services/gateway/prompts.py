"""What a client wrote, as the token ids the model reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from services.gateway.chat_template import ChatTemplate, ChatTemplateError
from services.gateway.errors import ApiError, invalid
from services.gateway.schemas import ChatRequest, CompletionRequest
from shared import digest as digests
from shared.tokenizer import Tokenizer

P = ParamSpec("P")
T = TypeVar("T")

LONG_TEXT = 2048  # characters; from here on tokenizing would be felt by the other streams
LONG_PROMPT = 2048  # tokens of a digest


class Prompts:
    """Turns requests into prompts with one model's tokenizer and chat template. Raises ModelError."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._template: ChatTemplate | None = None
        if tokenizer.chat_template is not None:
            tokens = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
            self._template = ChatTemplate(tokenizer.chat_template, tokens)

    async def of(self, request: ChatRequest | CompletionRequest) -> list[int]:
        """The prompt's token ids, at least one. Raises ApiError 400."""
        return await (self._of_chat(request) if isinstance(request, ChatRequest) else self._of_completion(request))

    async def _of_chat(self, request: ChatRequest) -> list[int]:
        length = sum(len(message.content) for message in request.messages)
        return _not_empty("messages", await _run(length > LONG_TEXT, self._chat, request))

    async def _of_completion(self, request: CompletionRequest) -> list[int]:
        prompt = request.prompt
        if not prompt:
            raise _empty("prompt")
        if isinstance(prompt, str):
            return _not_empty("prompt", await _run(len(prompt) > LONG_TEXT, self._encode, prompt))
        limit = self._tokenizer.vocab_size
        if not 0 <= min(prompt) <= max(prompt) < limit:
            raise invalid("prompt", f"token ids must be from 0 to {limit - 1}")
        return prompt

    def _chat(self, request: ChatRequest) -> list[int]:
        if self._template is None:
            raise ApiError(
                400, "messages: this model has no chat template; use /v1/completions", code="no_chat_template"
            )
        messages = [message.model_dump(include={"role", "content"}) for message in request.messages]
        try:
            text = self._template.render(messages)
        except ChatTemplateError as error:
            raise invalid("messages", str(error)) from None
        return self._tokenizer.encode(text, special=False)  # the template has written BOS itself

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, special=True)


async def digest_of(prompt: list[int]) -> bytes:
    """The digest chain over a prompt."""
    return await _run(len(prompt) > LONG_PROMPT, digests.extend, digests.EMPTY, prompt)


async def _run(is_long: bool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """In place, or in a thread where it would hold up the event loop."""
    return await asyncio.to_thread(function, *args, **kwargs) if is_long else function(*args, **kwargs)


def _not_empty(field: str, prompt: list[int]) -> list[int]:
    if not prompt:
        raise _empty(field)
    return prompt


def _empty(field: str) -> ApiError:
    return invalid(field, "must not be empty (got length 0, at least 1 token is needed)", code="empty_prompt")
