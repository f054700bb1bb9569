"""Log-probabilities as bytes, against a softmax over the whole row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.logprobs import LOWEST, entry_size, pack, unpack

ROWS = st.integers(1, 12).flatmap(
    lambda vocab: st.lists(
        st.tuples(
            st.lists(st.floats(-50, 50, width=32), min_size=vocab, max_size=vocab), st.integers(0, vocab - 1)
        ),
        min_size=1,
        max_size=4,
    )
)


@given(rows=ROWS, num_top=st.integers(0, 20), as_float32=st.booleans())
def test_entries_are_the_softmax_of_the_rows(
    rows: list[tuple[list[float], int]], num_top: int, as_float32: bool
) -> None:
    logits = np.array([row for row, _ in rows], np.float32 if as_float32 else np.float64)
    tokens = [token for _, token in rows]
    packed = pack(logits, tokens, num_top)
    assert len(packed) == len(rows) * entry_size(num_top)
    for row, token, found in zip(logits.astype(float), tokens, unpack(packed, num_top), strict=True):
        chances = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        assert found.logprob == pytest.approx(np.log(chances[token]), rel=1e-5, abs=1e-6)
        likeliest = sorted(row.tolist(), reverse=True)[:num_top]
        assert [row[i] for i, _ in found.top] == pytest.approx(likeliest, rel=1e-12, abs=1e-12)
        assert len({i for i, _ in found.top}) == len(found.top)
        assert [value for _, value in found.top] == sorted((value for _, value in found.top), reverse=True)
        for token_id, value in found.top:
            assert value == pytest.approx(np.log(chances[token_id]), rel=1e-5, abs=1e-6)


def test_a_cut_of_the_bytes_is_a_cut_of_the_tokens() -> None:
    logits = np.arange(12.0).reshape(3, 4)
    whole, size = pack(logits, [0, 1, 2], 2), entry_size(2)
    assert whole[size : 3 * size] == pack(logits[1:], [1, 2], 2)


def test_impossible_tokens_have_a_number_that_json_can_hold() -> None:
    [found] = unpack(pack(np.array([[0.0, -np.inf]]), [1], 2), 2)
    assert found.logprob == LOWEST
    assert found.top == [(0, 0.0), (1, LOWEST)]


def test_half_an_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        unpack(bytes(entry_size(2) + 1), 2)


def test_nothing_asked_for_is_nothing_kept() -> None:
    assert (entry_size(None), entry_size(0), entry_size(20)) == (0, 4, 164)
