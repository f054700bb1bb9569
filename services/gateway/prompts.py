"""What a client wrote, as the token ids the model reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from services.gateway.admission import unavailable
from services.gateway.chat_template import ChatTemplate, ChatTemplateError
from services.gateway.errors import ApiError, invalid
from services.gateway.schemas import ChatRequest, CompletionRequest, Message
from services.gateway.turns import Turns
from shared import digest as digests
from shared.tokenizer import Tokenizer

P = ParamSpec("P")
T = TypeVar("T")

LONG_TEXT = 2048  # characters; from here on tokenizing would be felt by the other streams
LONG_PROMPT = 2048  # tokens of a digest
NUM_THREADS = 2  # for long texts, which tenants share fairly
QUEUE_S = 10.0  # for one's turn


class Prompts:
    """Turns requests into prompts with one model's tokenizer and chat template. Raises ModelError."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._threads = ThreadPoolExecutor(NUM_THREADS, "tokenizer")
        self._turns = Turns(NUM_THREADS)
        self._template: ChatTemplate | None = None
        if tokenizer.chat_template is not None:
            tokens = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
            self._template = ChatTemplate(tokenizer.chat_template, tokens)

    async def of(self, request: ChatRequest | CompletionRequest, tenant: str) -> list[int]:
        """The prompt's token ids, at least one. Raises ApiError 400."""
        if isinstance(request, ChatRequest):
            return _not_empty("messages", await self.tokens(request.messages, tenant))
        prompt = request.prompt
        if not prompt:
            raise _empty("prompt")
        if isinstance(prompt, str):
            return _not_empty("prompt", await self.tokens(prompt, tenant))
        self._check("prompt", prompt)
        return prompt

    async def tokens(
        self, prompt: str | Sequence[Message], tenant: str, *, special: bool | None = None
    ) -> list[int]:
        """Ids of a text, or of messages through the chat template, perhaps none. Raises ApiError 400.

        ``special`` says whether to add what the model puts around a plain prompt; a template does so itself.
        """
        if isinstance(prompt, str):
            return await self.run(len(prompt) > LONG_TEXT, tenant, self._encode, prompt, special is not False)
        length = sum(len(message.content) for message in prompt)
        return await self.run(length > LONG_TEXT, tenant, self._chat, prompt, bool(special))

    async def text(self, tokens: list[int], tenant: str) -> str:
        """The text of ids, special tokens included. Raises ApiError 400."""
        self._check("tokens", tokens)
        return await self.run(len(tokens) > LONG_TEXT, tenant, self._decode, tokens)

    def spelling(self, token: int) -> str:
        """A token's name in the vocabulary."""
        return self._tokenizer.token(token) or ""

    async def run(
        self, is_long: bool, tenant: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """In place, or in a thread where it would hold up the event loop, once it is the tenant's turn.

        Raises ApiError 503 where that takes long.
        """
        if not is_long:
            return function(*args, **kwargs)
        try:
            async with self._turns.turn(tenant, QUEUE_S):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, partial(function, *args, **kwargs))
        except TimeoutError:
            raise unavailable("too many long texts are being tokenized") from None

    def _check(self, field: str, tokens: Sequence[int]) -> None:
        limit = self._tokenizer.vocab_size
        if tokens and not 0 <= min(tokens) <= max(tokens) < limit:
            raise invalid(field, f"token ids must be from 0 to {limit - 1}")

    def _chat(self, messages: Sequence[Message], special: bool) -> list[int]:
        if self._template is None:
            raise ApiError(
                400, "messages: this model has no chat template; use /v1/completions", code="no_chat_template"
            )
        told = [message.model_dump(include={"role", "content"}) for message in messages]
        try:
            text = self._template.render(told)
        except ChatTemplateError as error:
            raise invalid("messages", str(error)) from None
        return self._tokenizer.encode(text, special=special)

    def _encode(self, text: str, special: bool) -> list[int]:
        return self._tokenizer.encode(text, special=special)

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special=False)


async def digest_of(prompt: list[int]) -> bytes:
    """The digest chain over a prompt."""
    if len(prompt) > LONG_PROMPT:
        return await asyncio.to_thread(digests.extend, digests.EMPTY, prompt)
    return digests.extend(digests.EMPTY, prompt)


def _not_empty(field: str, prompt: list[int]) -> list[int]:
    if not prompt:
        raise _empty(field)
    return prompt


def _empty(field: str) -> ApiError:
    return invalid(field, "must not be empty (got length 0, at least 1 token is needed)", code="empty_prompt")
