"""OpenAI's response shapes: chat and text completions, whole and in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from services.gateway.accounts import Account
from services.gateway.completion import Completion
from services.gateway.output import Piece

Json = dict[str, Any]


class Shape(ABC):
    """What both endpoints share; a subclass says how a choice looks."""

    id_prefix: str
    whole: str
    chunk: str

    def __init__(self, completion: Completion) -> None:
        self._completion = completion
        self._form = completion.form
        self._has_begun = completion.seen is not None and completion.seen.position > len(completion.request.prompt)

    @abstractmethod
    def opening(self) -> Json | None:
        """The chunk before the first text, if there is one."""

    @abstractmethod
    def piece(self, piece: Piece) -> Json | None:
        """One chunk of text; None where there is nothing to tell."""

    @abstractmethod
    def closing(self) -> Json:
        """The chunk that carries the finish reason."""

    @abstractmethod
    def body(self, text: str, tokens: list[int]) -> Json:
        """The whole answer."""

    def usage(self, account: Account) -> Json:
        """The last chunk, without a choice."""
        return {**self._head(self.chunk), "choices": [], "usage": account.usage(), "metrics": account.metrics()}

    def _head(self, kind: str) -> Json:
        return {
            "id": f"{self.id_prefix}-{self._completion.id}",
            "object": kind,
            "created": self._form.created,
            "model": self._form.model,
        }

    def _chunk(self, choice: Json, *, finish_reason: str | None = None) -> Json:
        choice = {"index": 0, **choice, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._head(self.chunk), "choices": [choice]}
        return {**chunk, "usage": None} if self._form.with_usage else chunk

    def _whole(self, choice: Json) -> Json:
        account = self._completion.account()
        choice = {"index": 0, **choice, "logprobs": None, "finish_reason": self._completion.finish_reason}
        return {
            **self._head(self.whole),
            "choices": [choice],
            "usage": account.usage(),
            "metrics": account.metrics(),
        }

    def _tokens(self, tokens: list[int]) -> Json:
        return {"token_ids": tokens} if self._form.with_tokens else {}

    def _prompt_tokens(self) -> Json:
        return {"prompt_token_ids": self._completion.request.prompt.tolist()} if self._form.with_tokens else {}


class ChatShape(Shape):
    """`/v1/chat/completions`."""

    id_prefix = "chatcmpl"
    whole = "chat.completion"
    chunk = "chat.completion.chunk"

    def opening(self) -> Json:
        return {**self._chunk({"delta": {"role": "assistant", "content": ""}}), **self._prompt_tokens()}

    def piece(self, piece: Piece) -> Json | None:
        if not piece.text and not (self._form.with_tokens and piece.tokens):
            return None
        return self._chunk({"delta": {"content": piece.text}, **self._tokens(piece.tokens)})

    def closing(self) -> Json:
        return self._chunk({"delta": {}}, finish_reason=self._completion.finish_reason)

    def body(self, text: str, tokens: list[int]) -> Json:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {**self._whole({"message": message, **self._tokens(tokens)}), **self._prompt_tokens()}


class CompletionShape(Shape):
    """`/v1/completions`."""

    id_prefix = "cmpl"
    whole = "text_completion"
    chunk = "text_completion"

    def opening(self) -> None:
        return None

    def piece(self, piece: Piece) -> Json | None:
        if not piece.text and not (self._form.with_tokens and piece.tokens):
            return None
        prompt = {} if self._has_begun else self._prompt_tokens()
        self._has_begun = True
        return self._chunk({"text": piece.text, **self._tokens(piece.tokens), **prompt})

    def closing(self) -> Json:
        return self._chunk({"text": ""}, finish_reason=self._completion.finish_reason)

    def body(self, text: str, tokens: list[int]) -> Json:
        return self._whole({"text": text, **self._tokens(tokens), **self._prompt_tokens()})


def shape_of(completion: Completion) -> Shape:
    """The shape of the endpoint that the request came to first."""
    return ChatShape(completion) if completion.form.endpoint == "chat" else CompletionShape(completion)
