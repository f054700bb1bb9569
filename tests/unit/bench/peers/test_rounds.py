from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.peers.contestants import Depth, Peer
from bench.peers.result import PLAIN, SPECULATING, Answer
from bench.peers.rounds import DEPTHS, compete, rows, tune

Calls = list[tuple[str, list[list[int]]]]


@dataclass
class Counting:
    """Answers each prompt with the ids that follow its last one; notes who was asked."""

    name: str
    calls: Calls
    speculates: bool = False
    depth: Depth = None
    wrong: dict[int, int] = field(default_factory=dict)  # at a position, another id

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> Answer:
        self.calls.append((self.name, [list(prompt) for prompt in prompts]))
        tokens = [[self.wrong.get(at, prompt[-1] + 1 + at) for at in range(num_tokens)] for prompt in prompts]
        return Answer(tokens, 0.5)


class Timed(Peer):
    """Takes a time that depends on the depth."""

    def __init__(self, seconds: dict[Depth, float]) -> None:
        self.name, self.speculates, self.depth = "peer", True, None
        self.seconds = seconds

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> Answer:
        return Answer([[0] * num_tokens for _ in prompts], self.seconds[self.depth])


def test_a_peer_gets_the_depth_that_suits_it() -> None:
    for best in DEPTHS:
        peer = Timed({depth: 1.0 if depth == best else 2.0 for depth in DEPTHS})
        tune(peer, [[1], [2]], 4)
        assert peer.depth == best


def test_all_decode_the_same_prompts_and_who_is_first_changes() -> None:
    calls: Calls = []
    contestants = [Counting(name, calls) for name in ("a", "b", "c")]
    prompts = [[[1]], [[2]], [[3]], [[4]]]
    said: list[str] = []
    answers = compete(contestants, prompts, 2, said.append)
    assert [name for name, _ in calls] == ["a", "b", "c", "b", "c", "a", "c", "a", "b", "a", "b", "c"]
    assert [asked for _, asked in calls] == [batch for batch in prompts for _ in contestants]
    assert [answer.tokens for answer in answers["b"]] == [[[2, 3]], [[3, 4]], [[4, 5]], [[5, 6]]]
    assert len(said) == 4
    assert "a 4.0, b 4.0, c 4.0" in said[0]


def test_differences_are_found_with_their_context() -> None:
    calls: Calls = []
    plain = Counting(PLAIN, calls)
    speculating = Counting(SPECULATING, calls, speculates=True)
    peer = Counting("peer", calls, wrong={2: 99})
    prompts = [[[10, 20], [30]], [[50], [70]]]
    asked: list[tuple[list[int], int, int]] = []

    def gap(context: Sequence[int], ours: int, other: int) -> float:
        asked.append((list(context), ours, other))
        return 1e-6 if context[0] == 10 else 0.5

    contestants = [plain, speculating, peer]
    found = rows(contestants, compete(contestants, prompts, 4, lambda _: None), prompts, gap)
    assert [row.same for row in found] == [4, 4, 0]
    assert [row.answers for row in found] == [4, 4, 4]
    assert asked[0] == ([10, 20, 21, 22], 23, 99)
    assert [(each.round, each.prompt, each.position) for each in found[2].differences] == [
        (0, 0, 2),
        (0, 1, 2),
        (1, 0, 2),
        (1, 1, 2),
    ]
    assert [each.is_tie for each in found[2].differences] == [True, False, False, False]
    assert not found[2].is_equal
    assert found[0].is_equal


def test_an_answer_that_ends_early_is_no_tie() -> None:
    calls: Calls = []
    plain, speculating = Counting(PLAIN, calls), Counting(SPECULATING, calls)
    answers = {
        PLAIN: [Answer([[1, 2, 3]], 1.0)],
        SPECULATING: [Answer([[1, 2]], 1.0)],
    }
    found = rows([plain, speculating], answers, [[[0]]], lambda *_: 0.0)
    assert found[1].differences[0].gap == float("inf")
    assert not found[1].is_equal
