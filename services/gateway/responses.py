"""OpenAI's response shapes: chat and text completions, whole and in chunks."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.gateway.accounts import Account, total_metrics, total_usage
from services.gateway.completion import Completion
from services.gateway.output import Piece

Json = dict[str, Any]

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_encode_text = json.encoder.encode_basestring
_MARK = "\ue000"


class Shape(ABC):
    """What both endpoints share; a subclass says how a choice looks."""

    id_prefix: str
    whole: str
    chunk: str

    def __init__(self, completion: Completion) -> None:
        self.completion = completion
        self.form = completion.form
        prompt, seen = len(completion.request.prompt), completion.seen
        self.position = prompt if seen is None else seen.position  # up to which everything has been told
        self._has_begun = self.position > prompt
        self._around_text: tuple[str, str] | None = None

    @abstractmethod
    def opening(self) -> Json | None:
        """The chunk before the first text, if there is one."""

    @abstractmethod
    def _told(self, piece: Piece) -> Json:
        """What a chunk's choice says of a piece."""

    @abstractmethod
    def _logprobs(self, piece: Piece) -> Json | None:
        """Of a piece's tokens; None where they are not asked for."""

    @abstractmethod
    def closing(self) -> Json:
        """The chunk that carries the finish reason."""

    @abstractmethod
    def choice(self, whole: Piece) -> Json:
        """One choice of the whole answer."""

    def whole_only(self) -> Json:
        """What a whole answer has beside its choices."""
        return {}

    def piece(self, piece: Piece) -> str | None:
        """One chunk of text, as JSON; None where there is nothing to tell."""
        self.position = max(self.position, piece.position)  # what has been seen before may come as empty pieces
        tells_tokens = self.form.with_tokens or self.completion.logprobs is not None
        if tells_tokens and (piece.text or piece.tokens):
            return encode(self._chunk(self._told(piece), logprobs=self._logprobs(piece)))
        return self._text_only(piece) if piece.text else None

    def _text_only(self, piece: Piece) -> str:
        """A chunk in which nothing but the text is new: what is around it is encoded once."""
        if self._around_text is None:
            chunk = encode(self._chunk(self._told(replace(piece, text=_MARK))))
            before, _, after = chunk.rpartition(_encode_text(_MARK))
            self._around_text = before, after
        before, after = self._around_text
        return f"{before}{_encode_text(piece.text)}{after}"

    def usage(self, accounts: Sequence[Account]) -> Json:
        """The last chunk, without a choice."""
        return {**self.head(self.chunk), "choices": [], **_figures(accounts)}

    def head(self, kind: str) -> Json:
        """What every chunk and the whole answer begin with."""
        return {
            "id": f"{self.id_prefix}-{self.form.answer or self.completion.id}",
            "object": kind,
            "created": self.form.created,
            "model": self.form.model,
            **({"service_tier": self.form.service_tier} if self.form.service_tier else {}),
        }

    def _choice(self, content: Json, logprobs: Json | None, finish_reason: str | None) -> Json:
        return {"index": self.form.index, **content, "logprobs": logprobs, "finish_reason": finish_reason}

    def _chunk(self, content: Json, *, logprobs: Json | None = None, finish_reason: str | None = None) -> Json:
        chunk = {**self.head(self.chunk), "choices": [self._choice(content, logprobs, finish_reason)]}
        return {**chunk, "usage": None} if self.form.with_usage else chunk

    def _tokens(self, piece: Piece) -> Json:
        """Ids, and where they come from, if asked for."""
        if not self.form.with_tokens:
            return {}
        drafted = self.completion.drafted(piece)
        ids = {"token_ids": piece.tokens}
        return ids if drafted is None else {**ids, "adaserve": {"drafted": drafted}}

    def _prompt_tokens(self) -> Json:
        return {"prompt_token_ids": self.completion.request.prompt.tolist()} if self.form.with_tokens else {}


class ChatShape(Shape):
    """`/v1/chat/completions`."""

    id_prefix = "chatcmpl"
    whole = "chat.completion"
    chunk = "chat.completion.chunk"

    def opening(self) -> Json:
        return {**self._chunk({"delta": {"role": "assistant", "content": ""}}), **self._prompt_tokens()}

    def _told(self, piece: Piece) -> Json:
        return {"delta": {"content": piece.text}, **self._tokens(piece)}

    def closing(self) -> Json:
        return self._chunk({"delta": {}}, finish_reason=self.completion.finish_reason)

    def _logprobs(self, piece: Piece) -> Json | None:
        told = self.completion.logprobs
        return None if told is None else told.chat(piece)

    def choice(self, whole: Piece) -> Json:
        message = {"role": "assistant", "content": whole.text, "refusal": None}
        content = {"message": message, **self._tokens(whole)}
        return self._choice(content, self._logprobs(whole), self.completion.finish_reason)

    def whole_only(self) -> Json:
        return self._prompt_tokens()


class CompletionShape(Shape):
    """`/v1/completions`."""

    id_prefix = "cmpl"
    whole = "text_completion"
    chunk = "text_completion"

    def opening(self) -> None:
        return None

    def _told(self, piece: Piece) -> Json:
        prompt = {} if self._has_begun else self._prompt_tokens()
        self._has_begun = True
        return {"text": piece.text, **self._tokens(piece), **prompt}

    def closing(self) -> Json:
        return self._chunk({"text": ""}, finish_reason=self.completion.finish_reason)

    def _logprobs(self, piece: Piece) -> Json | None:
        told = self.completion.logprobs
        return None if told is None else told.completion(piece)

    def choice(self, whole: Piece) -> Json:
        content = {"text": whole.text, **self._tokens(whole), **self._prompt_tokens()}
        return self._choice(content, self._logprobs(whole), self.completion.finish_reason)


def shape_of(completion: Completion) -> Shape:
    """The shape of the endpoint that the request came to first."""
    return ChatShape(completion) if completion.form.endpoint == "chat" else CompletionShape(completion)


def whole(shapes: Sequence[Shape], choices: list[Json], accounts: Sequence[Account]) -> Json:
    """The answer in one piece, with each shape's `choice`."""
    first = shapes[0]
    return {**first.head(first.whole), "choices": choices, **_figures(accounts), **first.whole_only()}


def _figures(accounts: Sequence[Account]) -> Json:
    return {"usage": total_usage(accounts), "metrics": total_metrics(accounts)}
