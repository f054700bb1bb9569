from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.detokenizer import Detokenizer, HoldBack, StopMatcher, StopScanner, token_bytes
from shared.tokenizer import Tokenizer
from tests import tiny_tokenizers

BYTE_LEVEL = Tokenizer(tiny_tokenizers.byte_level())
BYTE_FALLBACK = Tokenizer(tiny_tokenizers.byte_fallback())
TOKENIZERS = st.sampled_from([BYTE_LEVEL, BYTE_FALLBACK])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
STOPS = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)


def pushed(detokenizer: Detokenizer, tokens: list[int]) -> list[str]:
    return [*(detokenizer.push(token) for token in tokens), detokenizer.flush()]


@given(TOKENIZERS, TEXTS)
@example(BYTE_FALLBACK, "hello é world")
def test_any_text_comes_back_whole(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text, special=False)
    assert "".join(pushed(Detokenizer(tokenizer), tokens)) == tokenizer.decode(tokens)


@given(TOKENIZERS, st.data(), st.booleans())
def test_any_tokens_give_what_decoding_all_at_once_gives(
    tokenizer: Tokenizer, data: st.DataObject, skip_special: bool
) -> None:
    ids = st.integers(0, tokenizer.vocab_size + 3)  # ids of padding rows of an embedding included
    tokens = data.draw(st.lists(ids, max_size=30))
    whole = tokenizer.decode(tokens, skip_special=skip_special)
    assert "".join(pushed(Detokenizer(tokenizer, skip_special=skip_special), tokens)) == whole


@given(TOKENIZERS, TEXTS.filter(lambda text: "\ufffd" not in text))
def test_no_half_character_is_released(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text, special=False)
    assert all("\ufffd" not in piece for piece in pushed(Detokenizer(tokenizer), tokens))


@given(tokenizer=TOKENIZERS, text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@example(BYTE_FALLBACK, "hello é world")
def test_bytes_of_the_tokens_are_the_texts(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text, special=False)
    spelled = b"".join(token_bytes(tokenizer, token) for token in tokens).decode()
    assert spelled.lstrip(" ") == tokenizer.decode(tokens).lstrip(" ")


def test_special_tokens_are_their_names_and_unknown_ids_nothing() -> None:
    for token in BYTE_LEVEL.special_ids:
        assert token_bytes(BYTE_LEVEL, token).decode() == BYTE_LEVEL.token(token)
    assert token_bytes(BYTE_LEVEL, 10**6) == b""


def test_a_character_split_over_tokens_comes_with_its_last_byte() -> None:
    tokens = [BYTE_LEVEL.token_map[spelling] for spelling in "ðŁĺĢ"]  # the four bytes of 😀
    assert pushed(Detokenizer(BYTE_LEVEL), tokens) == ["", "", "", "😀", ""]
    assert pushed(Detokenizer(BYTE_LEVEL), tokens[:3]) == ["", "", "", "\ufffd"]


def reference(text: str, stops: list[str]) -> tuple[str, bool]:
    """Read character by character: cut before the longest stop string that ends first."""
    for end in range(1, len(text) + 1):
        ended = [stop for stop in stops if text[:end].endswith(stop)]
        if ended:
            return text[: end - max(map(len, ended))], True
    return text, False


@given(st.text("abc", max_size=30), STOPS, st.lists(st.integers(0, 30)))
def test_stop_strings_cut_the_same_text_however_it_is_split(text: str, stops: list[str], cuts: list[int]) -> None:
    matcher = StopMatcher(stops)
    released = ""
    bounds = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    for start, end in pairwise(bounds):
        piece, matched = matcher.push(text[start:end])
        released += piece
        seen = text[:end]
        if not matched:  # exactly the longest proper prefix of a stop string is held
            held = seen[len(released) :]
            longest = max((len(s[:n]) for s in stops for n in range(1, len(s)) if seen.endswith(s[:n])), default=0)
            assert len(held) == longest
    released += matcher.flush()
    assert (released, matcher.matched) == reference(text, stops)
    assert matcher.kept == len(released)
    if matcher.matched:
        assert matcher.push("a") == ("", True)


@given(st.lists(st.text("ab", max_size=6), max_size=6), STOPS)
def test_hold_back_is_the_longest_proper_prefix_of_a_stop_string(pieces: list[str], stops: list[str]) -> None:
    hold_back = HoldBack(stops)
    seen = ""
    for piece in pieces:
        seen += piece
        prefixes = [stop[:n] for stop in stops for n in range(len(stop))]
        assert hold_back.push(piece) == max((len(p) for p in prefixes if seen.endswith(p)), default=0)


@given(TOKENIZERS, TEXTS)
def test_holding_tells_whether_text_is_missing(tokenizer: Tokenizer, text: str) -> None:
    detokenizer, released = Detokenizer(tokenizer), ""
    tokens = tokenizer.encode(text, special=False)
    for count, token in enumerate(tokens, 1):
        released += detokenizer.push(token)
        if not detokenizer.is_holding:
            assert released == tokenizer.decode(tokens[:count])


@given(TEXTS, st.data())
def test_the_scanner_names_the_token_that_completes_a_stop_string(text: str, data: st.DataObject) -> None:
    stop = data.draw(st.text("ab€ é", min_size=1, max_size=4))
    whole = data.draw(TEXTS) + stop + text
    tokens = BYTE_LEVEL.encode(whole, special=False)
    scanner = StopScanner(BYTE_LEVEL, [stop])
    for count, token in enumerate(tokens, 1):
        kept = scanner.push(token)
        if kept is not None:
            decoded = BYTE_LEVEL.decode(tokens[:count])
            assert stop in decoded
            assert stop not in BYTE_LEVEL.decode(tokens[: count - 1])
            assert decoded[:kept] == decoded[: decoded.index(stop)]
            return
    pytest.fail("the stop string is in the text and was not found")


def test_a_stop_string_over_several_tokens() -> None:
    scanner = StopScanner(BYTE_LEVEL, ["€€"])
    kept = [scanner.push(token) for token in BYTE_LEVEL.encode("so €€ far", special=False)]
    assert next(value for value in kept if value is not None) == 3


@given(st.text("ab", min_size=1, max_size=12), st.integers(0, 12))
def test_stop_strings_begin_after_the_minimum_length(text: str, min_tokens: int) -> None:
    scanner = StopScanner(BYTE_LEVEL, ["a"], min_tokens=min_tokens)
    tokens = BYTE_LEVEL.encode(text, special=False)
    found = next((kept for token in tokens if (kept := scanner.push(token)) is not None), None)
    exempt = BYTE_LEVEL.decode(tokens[:min_tokens])
    at = text.find("a", len(exempt))
    assert found == (None if at < 0 else at)


@given(TOKENIZERS, st.lists(st.lists(st.integers(0, BYTE_LEVEL.vocab_size + 3), max_size=6), max_size=6))
def test_tokens_pushed_together_give_what_they_give_one_by_one(
    tokenizer: Tokenizer, groups: list[list[int]]
) -> None:
    together, singly = Detokenizer(tokenizer), Detokenizer(tokenizer)
    for group in groups:
        expected = "".join(singly.push(token) for token in group)
        whole = together.push_whole(group)
        assert whole == (expected if tokenizer is BYTE_LEVEL and not singly.is_holding else None)
        if whole is None:
            assert "".join(together.push(token) for token in group) == expected
    assert together.flush() == singly.flush()
