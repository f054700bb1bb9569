"""Text as the client sees it: whole characters, no part of a stop string, exact positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.output import NoEvent, OutputText, Piece
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


def pieces(text: str, stops: list[str], cut: list[list[int]], kept: int, seen: int | None) -> list[Piece]:
    """What a connection tells that knows the output up to a position."""
    output = OutputText(TOKENIZER, stops, 10, seen=seen)
    told = [output.push(group) for group in cut[:-1]] + [output.finish(cut[-1], end("length", kept))]
    return [piece for piece in told if piece.text or piece.tokens]


@given(TEXTS, st.lists(st.text("ab é", min_size=1, max_size=3), max_size=3), SIZES, st.booleans())
def test_after_what_was_seen_the_same_pieces_follow(
    text: str, stops: list[str], sizes: list[int], is_cut: bool
) -> None:
    tokens = TOKENIZER.encode(text, special=False)
    cut = groups(tokens, sizes)
    kept = len(TOKENIZER.decode(tokens)) // 2 if is_cut and len(cut) == 1 else -1
    whole = pieces(text, stops, cut, kept, None)
    for index, piece in enumerate(whole):
        assert pieces(text, stops, cut, kept, piece.position) == whole[index + 1 :]
        # Redis may have lost how the commits were grouped, and tell all up to there as one.
        known, rest, position = [], [], 10
        for group in cut:
            position += len(group)
            (known if position <= piece.position else rest).append(group)
        merged = [[token for group in known for token in group], *rest] if known else rest
        assert "".join(p.text for p in pieces(text, stops, merged, kept, piece.position)) == "".join(
            p.text for p in whole[index + 1 :]
        )


@pytest.mark.parametrize("sizes", [[], [1], [2], [1, 1, 1]])
def test_inside_a_character_and_beyond_the_end_is_no_event(sizes: list[int]) -> None:
    cut = groups(TOKENIZER.encode("a日b", special=False), sizes)  # 1 + 3 + 1 tokens
    for seen in (12, 13, 16):
        with pytest.raises(NoEvent):
            pieces("", [], cut, -1, seen)
    assert [len(pieces("", [], cut, -1, seen)) > 0 for seen in (10, 11, 14, 15)] == [True, True, True, False]


def test_a_position_to_come_is_told_nothing_until_it_is_reached() -> None:
    a, b, c, d = TOKENIZER.encode("abcd", special=False)
    output = OutputText(TOKENIZER, [], 10, seen=13)
    assert [output.push([a]).text, output.is_behind, output.push([b]).tokens] == ["", True, []]
    assert output.push([c, d]).text == "d"
    assert not output.is_behind
