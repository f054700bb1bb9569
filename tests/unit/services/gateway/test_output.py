"""Text as the client sees it: whole characters, no part of a stop string, exact positions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.output import OutputText
from shared.detokenizer import StopScanner
from shared.messages import TokenEvent
from shared.tokenizer import Tokenizer
from tests import tiny_tokenizers

TOKENIZER = Tokenizer(tiny_tokenizers.byte_level())
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
SIZES = st.lists(st.integers(1, 5), max_size=8)


def end(finish: str, text_length: int = -1) -> TokenEvent:
    tokens = np.empty(0, np.int32)
    return TokenEvent(
        request="r",
        start=0,
        tokens=tokens,
        digest=bytes(8),
        finish=finish,
        text_length=text_length,
        stats=None,
        error=None,
    )


def groups(tokens: list[int], sizes: list[int]) -> list[list[int]]:
    """The tokens cut into groups of the given sizes, the rest last."""
    cut = []
    for size in sizes:
        cut.append(tokens[:size])
        tokens = tokens[size:]
    return [group for group in (*cut, tokens) if group]


@given(
    TEXTS, st.lists(st.text("ab é", min_size=1, max_size=3), max_size=3), st.lists(st.integers(1, 5), max_size=8)
)
def test_every_piece_ends_where_its_position_says(text: str, stops: list[str], sizes: list[int]) -> None:
    tokens = TOKENIZER.encode(text, special=False)
    output, shown, ids = OutputText(TOKENIZER, stops, 10), "", []
    *first, last = groups(tokens, sizes)
    for group in first:
        piece = output.push(group)
        shown += piece.text
        ids += piece.tokens
        assert shown == TOKENIZER.decode(tokens[: piece.position - 10])
        assert len(ids) == piece.position - 10
    piece = output.finish(last, end("length"))
    assert shown + piece.text == TOKENIZER.decode(tokens)
    assert ids + piece.tokens == tokens
    assert piece.position == 10 + len(tokens)


@given(TEXTS, st.text("ab é€", min_size=1, max_size=4), SIZES)
def test_no_part_of_the_stop_string_that_ends_it_is_shown(text: str, stop: str, sizes: list[int]) -> None:
    tokens, scanner, kept = TOKENIZER.encode(text + stop, special=False), StopScanner(TOKENIZER, [stop]), None
    for count, token in enumerate(tokens, 1):  # the verifier commits through the token that completes it
        kept = scanner.push(token)
        if kept is not None:
            tokens = tokens[:count]
            break
    assert kept is not None
    output, shown = OutputText(TOKENIZER, [stop], 0), ""
    *first, last = groups(tokens, sizes)
    for group in first:
        shown += output.push(group).text
        assert len(shown) <= kept
    shown += output.finish(last, end("stop", kept)).text
    assert shown == (text + stop)[:kept]
    assert stop not in shown


@given(TEXTS, SIZES)
def test_the_stop_token_is_counted_and_not_shown(text: str, sizes: list[int]) -> None:
    tokens = TOKENIZER.encode(text, special=False)
    output, shown, ids = OutputText(TOKENIZER, [], 0), "", []
    *first, last = groups([*tokens, 65], sizes)
    for group in first:
        piece = output.push(group)
        shown += piece.text
        ids += piece.tokens
    piece = output.finish(last, end("stop"))
    assert shown + piece.text == TOKENIZER.decode(tokens)
    assert ids + piece.tokens == [*tokens, 65]
