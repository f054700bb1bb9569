"""Token ids to text as they come, and stop strings in that text.

The verifier and the gateway run the same code, so a text length that one sends is right for the other. Cost is
constant per token on average; no half of a UTF-8 character is ever released.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from shared.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE's spelling of the 256 bytes (GPT-2): printable ones as they are, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    spelled = {chr(byte): byte for byte in printable}
    return spelled | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTES = _byte_alphabet()


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """What one token adds to a text, as bytes; of a special token its name, of an unknown id nothing."""
    spelling = tokenizer.token(token)
    if spelling is None:
        return b""
    if token in tokenizer.special_ids:
        return spelling.encode("utf-8", "surrogatepass")
    if tokenizer.decoder_types == {"ByteLevel"}:
        return _spelled(spelling)
    if _BYTE_TOKEN.fullmatch(spelling) and "ByteFallback" in tokenizer.decoder_types:
        return bytes([int(spelling[3:5], 16)])
    # Behind another one, because a decoder may strip the space that a text begins with.
    before = tokenizer.decode([token], skip_special=False)
    return tokenizer.decode([token, token], skip_special=False)[len(before) :].encode()


def _spelled(spelling: str) -> bytes:
    """The bytes of a byte-level token, or of an added one, which spells text."""
    try:
        return bytes([_BYTES[character] for character in spelling])
    except KeyError:
        return spelling.encode("utf-8", "surrogatepass")


class _Decoding(Protocol):
    @property
    def is_holding(self) -> bool: ...
    def push(self, token: int) -> str: ...
    def push_whole(self, tokens: Sequence[int]) -> str | None: ...
    def flush(self) -> str: ...


class Detokenizer:
    """Incremental decoding: all pushes and the flush together are ``tokenizer.decode`` of all tokens."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        is_byte_level = tokenizer.decoder_types == {"ByteLevel"}
        self._decoding: _Decoding = _ByteDecoding(tokenizer) if is_byte_level else _WindowDecoding(tokenizer)
        self._skipped = tokenizer.special_ids if skip_special else frozenset()

    @property
    def is_holding(self) -> bool:
        """Whether part of the tokens' text is still incomplete."""
        return self._decoding.is_holding

    def push(self, token: int) -> str:
        """Text that became final with this token; "" while a character is incomplete."""
        return "" if token in self._skipped else self._decoding.push(token)

    def push_whole(self, tokens: Sequence[int]) -> str | None:
        """What `push` of each would give together, if nothing is held behind them; None, and no push, otherwise.

        None also where that is not cheaper than to push each.
        """
        if not self._skipped.isdisjoint(tokens):
            tokens = [token for token in tokens if token not in self._skipped]
        return self._decoding.push_whole(tokens)

    def flush(self) -> str:
        """What is still held, incomplete characters as U+FFFD. Ends this detokenizer's text."""
        return self._decoding.flush()


class _ByteDecoding:
    """Byte-level BPE: tokens spell bytes, so an incremental UTF-8 decoder is exact. It holds at most three."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._spelled = tokenizer.spelled
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def is_holding(self) -> bool:
        return bool(self._utf8.getstate()[0])

    def push(self, token: int) -> str:
        return self._utf8.decode(self._bytes(token))

    def push_whole(self, tokens: Sequence[int]) -> str | None:
        before = self._utf8.getstate()
        text = self._utf8.decode(b"".join(map(self._bytes, tokens)))
        if not self.is_holding:
            return text
        self._utf8.setstate(before)
        return None

    def _bytes(self, token: int) -> bytes:
        known = self._spelled.get(token)
        if known is None:
            known = _spelled(self._tokenizer.token(token) or "")
            if known:  # ids outside the vocabulary spell nothing, and are without end
                self._spelled[token] = known
        return known

    def flush(self) -> str:
        text = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return text


class _WindowDecoding:
    """Any other decoder: decode a short window of tokens and release what grew.

    The window starts with tokens already released, so that a decoder which strips a leading space strips it there.
    A run of byte tokens (<0x..>) is held to its end, because one invalid byte makes the whole run U+FFFD.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._num_released = 0
        self._released = ""

    @property
    def is_holding(self) -> bool:
        return len(self._window) > self._num_released

    def push(self, token: int) -> str:
        spelling = self._tokenizer.token(token)
        if spelling is None:
            return ""
        self._window.append(token)
        if _BYTE_TOKEN.fullmatch(spelling) and "ByteFallback" in self._tokenizer.decoder_types:
            return ""
        text = self._text(self._window)
        if len(text) <= len(self._released) or text.endswith(REPLACEMENT):
            return ""
        return self._release(text)

    def push_whole(self, tokens: Sequence[int]) -> str | None:  # noqa: ARG002 - each is decoded anyway
        return None

    def flush(self) -> str:
        return self._release(self._text(self._window))

    def _release(self, text: str) -> str:
        new = text[len(self._released) :]
        self._window = self._window[self._num_released :]
        self._num_released = len(self._window)
        self._released = self._text(self._window)
        return new

    def _text(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special=False)


class Released(NamedTuple):
    """Text that may be shown, and whether a stop string has now been completed (its text is not in it)."""

    text: str
    matched: bool


class StopMatcher:
    """Finds the stop string that is completed first, reading character by character.

    How the text was cut into pushes never changes the outcome. Of several completed by one character the longest
    counts. Any suffix that could still become a stop string is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._patterns = [_Pattern(stop) for stop in stops if stop]
        self._held = ""
        self.kept = 0  # characters released so far; after a match the length of the text to keep
        self.matched = False

    def push(self, text: str) -> Released:
        """Append ``text``. After a match everything is dropped."""
        if self.matched:
            return Released("", True)
        if not self._patterns:
            return self._release(text, "")
        for index, character in enumerate(text):
            longest = max((p.length for p in self._patterns if p.push(character)), default=0)
            if longest:
                self.matched = True
                seen = self._held + text[: index + 1]
                return self._release(seen[:-longest], "")
        seen = self._held + text
        cut = len(seen) - max(pattern.state for pattern in self._patterns)
        return self._release(seen[:cut], seen[cut:])

    def flush(self) -> str:
        """What is held: the output ended before it became a stop string."""
        return self._release(self._held, "").text

    def _release(self, text: str, held: str) -> Released:
        self._held = held
        self.kept += len(text)
        return Released(text, self.matched)


class HoldBack:
    """How much of a growing text could still become a stop string: what a reader must not be shown yet.

    Never decides that the text ends; that is the verifier's `StopScanner`.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._patterns = [_Pattern(stop) for stop in stops if stop]

    @property
    def is_needed(self) -> bool:
        """Whether there is any stop string."""
        return bool(self._patterns)

    def push(self, text: str) -> int:
        """Append ``text``; length of the longest end of it all that is a proper prefix of a stop string."""
        if not self._patterns:
            return 0
        for pattern in self._patterns:
            for character in text:
                pattern.push(character)
        return max(pattern.state for pattern in self._patterns)


class _Pattern:
    """Knuth-Morris-Pratt over one stop string: ``state`` is the longest proper prefix that the text ends with."""

    __slots__ = ("_fallback", "_stop", "length", "state")

    def __init__(self, stop: str) -> None:
        self._stop = stop
        self.length = len(stop)
        self._fallback = [0] * (self.length + 1)
        state = 0
        for index in range(1, self.length):
            state = self._next(state, stop[index])
            self._fallback[index + 1] = state
        self.state = 0

    def push(self, character: str) -> bool:
        """Whether this character completes the stop string."""
        self.state = self._next(self.state, character)
        if self.state < self.length:
            return False
        self.state = self._fallback[self.length]
        return True

    def _next(self, state: int, character: str) -> int:
        while state and self._stop[state] != character:
            state = self._fallback[state]
        return state + 1 if self._stop[state] == character else 0


class StopScanner:
    """Which token completes a stop string, and how much of the text then remains.

    A stop string counts where its text begins after the first ``min_tokens`` tokens.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], *, min_tokens: int = 0) -> None:
        self._detokenizer = Detokenizer(tokenizer)
        self._matcher = StopMatcher(stops)
        self._num_exempt = min_tokens
        self._exempt_length = 0  # characters of the exempt tokens

    def push(self, token: int) -> int | None:
        """Characters of output text to keep when this token completes a stop string, else None."""
        text = self._detokenizer.push(token)
        if self._num_exempt > 0:
            self._num_exempt -= 1
            self._exempt_length += len(text)
            return None
        released = self._matcher.push(text)
        return self._exempt_length + self._matcher.kept if released.matched else None
