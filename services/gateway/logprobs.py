"""Log-probabilities in OpenAI's two shapes; one entry for every output token, the one that ends it included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.gateway.delivery import Delivery
from services.gateway.output import Piece
from shared.detokenizer import Detokenizer, token_bytes
from shared.logprobs import TokenLogprob, entry_size, unpack
from shared.tokenizer import Tokenizer

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Told:
    """One token; ``offset`` is the length of the output's text before it, in characters."""

    token: int
    logprob: TokenLogprob
    offset: int


class Logprobs:
    """Of one request with ``num_top`` alternatives a token; pieces are told in order, each once."""

    def __init__(self, tokenizer: Tokenizer, delivery: Delivery, num_top: int) -> None:
        self._tokenizer = tokenizer
        self._delivery = delivery
        self._start = delivery.position
        self._num_top = num_top
        self._detokenizer = Detokenizer(tokenizer)
        self._num_read = 0
        self._length = 0  # characters of the tokens read

    def chat(self, piece: Piece) -> Json:
        """`choices[].logprobs` of a chat."""
        return {"content": [self._content(told) for told in self._told(piece)], "refusal": None}

    def completion(self, piece: Piece) -> Json:
        """`choices[].logprobs` of a text completion; ``top_logprobs`` also name the token itself."""
        told = self._told(piece)
        return {
            "tokens": [self._spelling(each.token) for each in told],
            "token_logprobs": [each.logprob.logprob for each in told],
            "top_logprobs": [
                {
                    self._spelling(token): value
                    for token, value in [*each.logprob.top, (each.token, each.logprob.logprob)]
                }
                for each in told
            ],
            "text_offset": [each.offset for each in told],
        }

    def _content(self, told: _Told) -> Json:
        top = [self._one(token, value) for token, value in told.logprob.top]
        return {**self._one(told.token, told.logprob.logprob), "top_logprobs": top}

    def _one(self, token: int, logprob: float) -> Json:
        return {
            "token": self._spelling(token),
            "logprob": logprob,
            "bytes": list(token_bytes(self._tokenizer, token)),
        }

    def _spelling(self, token: int) -> str:
        """Text, or OpenAI's way to write a token that is part of a character."""
        spelled = token_bytes(self._tokenizer, token)
        try:
            return spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)

    def _told(self, piece: Piece) -> list[_Told]:
        end = piece.position - self._start
        first = end - len(piece.tokens)
        for token in self._delivery.tokens[self._num_read : first]:  # what an earlier connection has told
            self._read(token)
        size = entry_size(self._num_top)
        entries = unpack(bytes(self._delivery.logprobs[first * size : end * size]), self._num_top)
        return [_Told(token, entry, self._read(token)) for token, entry in zip(piece.tokens, entries, strict=True)]

    def _read(self, token: int) -> int:
        """The token's offset."""
        offset = self._length
        self._num_read += 1
        self._length += len(self._detokenizer.push(token))
        return offset
