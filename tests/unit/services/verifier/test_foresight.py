"""Looking ahead changes when noise is found, never a token."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from services.verifier.acceptance import Walk, walk_trees
from services.verifier.foresight import Foresight, look_ahead
from services.verifier.gumbel import Loud
from services.verifier.sampling import SamplingParams
from shared.tree import TokenTree

VOCAB = 3000
WARM = SamplingParams(temperature=1.0, seed=8)


def test_walks_draw_the_same_tokens_with_it() -> None:
    tree = TokenTree(np.arange(4, dtype=np.int32), np.arange(-1, 3, dtype=np.int16), np.zeros(4, np.float32))
    for position in range(5, 40):
        logits = np.random.default_rng(position).normal(0.0, 3.0, (5, VOCAB)).astype(np.float32)
        logits[:, :4] += 8.0
        foresight = Foresight(WARM)
        look_ahead([(foresight, position)], 6, VOCAB, lambda: False)
        plain, known = Walk(tree, 0, WARM, position), Walk(tree, 0, WARM, position, foresight=foresight)
        walk_trees(logits, [plain, known])
        assert known.tokens == plain.tokens
        assert foresight.at(position + len(known.path)) is not None


def test_a_walk_asks_it_for_each_position() -> None:
    """Told that one id is the only loud one, and that it is deafening, a walk draws that id."""
    deaf = Loud(VOCAB, np.array([7]), np.array([1e6]), 1e6)

    class Told(Foresight):
        def at(self, position: int) -> Loud | None:
            return deaf if position == 6 else None

    tree = TokenTree(np.array([7], np.int32), np.array([-1], np.int16), np.zeros(1, np.float32))
    logits = np.zeros((2, VOCAB), np.float32)
    plain = Walk(tree, 0, WARM, 6)
    told = Walk(tree, 0, WARM, 6, foresight=Told(WARM))
    walk_trees(logits, [plain, told])
    assert plain.tokens[0] != 7
    assert told.tokens[0] == 7
    assert len(told.tokens) == 2


def test_everybodys_nearest_position_comes_first() -> None:
    requests = [(Foresight(WARM), 10), (Foresight(WARM), 20)]
    calls = count()
    look_ahead(requests, 5, VOCAB, lambda: next(calls) >= 3)
    known = [
        [foresight.at(position + ahead) is not None for ahead in range(3)] for foresight, position in requests
    ]
    assert known == [[True, True, False], [True, False, False]]


def test_what_has_been_drawn_is_forgotten() -> None:
    foresight = Foresight(WARM)
    look_ahead([(foresight, 10)], 3, VOCAB, lambda: False)
    foresight.forget(12)
    assert [foresight.at(position) is not None for position in (10, 11, 12, 13)] == [False, False, True, False]


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.0),
        SamplingParams(temperature=1.0, top_k=5),
        SamplingParams(temperature=1.0, top_p=0.5),
    ],
)
def test_draws_that_do_not_weigh_all_ids_are_not_looked_at(params: SamplingParams) -> None:
    foresight = Foresight(params)
    foresight.look(10, VOCAB)
    assert foresight.at(10) is None
