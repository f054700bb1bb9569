"""Committed tokens to the text a client may see.

Text leaves only at token boundaries where nothing is held: no half character, nothing that could still become a
stop string. So every piece has a position, and all text up to that position, and none beyond, has been shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.detokenizer import Detokenizer, HoldBack
from shared.messages import TokenEvent
from shared.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of some whole tokens; ``position`` is the context position after them."""

    text: str
    tokens: list[int]
    position: int


class NoEvent(Exception):
    """No event of this output has the position that the client names."""


class OutputText:
    """The text of one request. ``position`` is where its output begins: the prompt's length.

    With ``seen``, the position of an event that the client has received, pieces up to there are empty. Raises
    NoEvent where no event can have had that position: a character or a stop string was unfinished there.
    """

    def __init__(
        self, tokenizer: Tokenizer, stops: Sequence[str], position: int, *, seen: int | None = None
    ) -> None:
        self._seen = position if seen is None else seen
        self._detokenizer = Detokenizer(tokenizer)
        self._hold_back = HoldBack(stops)
        self._position = position  # after the last token pushed
        self._held_text = ""
        self._held_tokens: list[int] = []
        self._length = 0  # characters released

    def push(self, tokens: Sequence[int]) -> Piece:
        """What became final with these tokens; empty where they are held."""
        known = self._seen - self._position
        if known <= 0:
            return self._push(tokens)
        piece = self._push(tokens[:known])
        if self._position == self._seen != piece.position:
            raise NoEvent
        return self._push(tokens[known:]) if known < len(tokens) else Piece("", [], piece.position)

    def _push(self, tokens: Sequence[int]) -> Piece:
        whole = None if self._hold_back.is_needed else self._detokenizer.push_whole(tokens)
        if whole is not None:
            self._held_tokens += tokens
            self._position += len(tokens)
            return self._release(self._held_text + whole, len(self._held_tokens))
        ready = ("", 0)
        for token in tokens:
            self._append(token)
            text = self._detokenizer.push(token)
            self._held_text += text
            if not self._hold_back.push(text) and not self._detokenizer.is_holding:
                ready = (self._held_text, len(self._held_tokens))
        return self._release(*ready)

    def finish(self, tokens: Sequence[int], end: TokenEvent) -> Piece:
        """The last tokens and everything held, cut as the verifier says.

        A stop token is among the tokens and not in the text; a stop string cuts the text at ``text_length``.
        """
        known = self._seen - self._position
        if known > len(tokens):
            raise NoEvent
        if 0 < known < len(tokens):
            self.push(tokens[:known])
            tokens = tokens[known:]
        piece = self._finish(tokens, end)
        return Piece("", [], piece.position) if known > 0 and self._position == self._seen else piece

    def _finish(self, tokens: Sequence[int], end: TokenEvent) -> Piece:
        ends_by_token = end.finish == "stop" and end.text_length < 0
        for index, token in enumerate(tokens):
            self._append(token)
            if not (ends_by_token and index == len(tokens) - 1):
                self._held_text += self._detokenizer.push(token)
        self._held_text += self._detokenizer.flush()
        text = self._held_text
        if end.text_length >= 0:
            text = text[: max(0, end.text_length - self._length)]
        return self._release(text, len(self._held_tokens))

    @property
    def end(self) -> int:
        """Position after the last token pushed."""
        return self._position

    @property
    def is_behind(self) -> bool:
        """Whether what the client has seen has not been reached yet."""
        return self._position < self._seen

    def _append(self, token: int) -> None:
        self._held_tokens.append(token)
        self._position += 1

    def _release(self, text: str, num_tokens: int) -> Piece:
        tokens, self._held_tokens = self._held_tokens[:num_tokens], self._held_tokens[num_tokens:]
        self._held_text = self._held_text[len(text) :]
        self._length += len(text)
        return Piece(text, tokens, self._position - len(self._held_tokens))
