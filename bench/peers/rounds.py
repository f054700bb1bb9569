"""Contestants in interleaved rounds: in each, all decode the same prompts, and who is first changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bench.peers.contestants import Contestant, Depth, Peer
from bench.peers.result import OURS, PLAIN, Answer, Difference, Row, first_difference, ratios, spread

Prompt = Sequence[int]
Gap = Callable[[Sequence[int], int, int], float]
DEPTHS: tuple[Depth, ...] = ("default", 3, 5, 8)


def tune(peer: Peer, prompts: Sequence[Prompt], num_tokens: int) -> None:
    """Let a speculating peer have the depth with which it is fastest on these prompts, of DEPTHS."""
    found: dict[Depth, float] = {}
    for depth in DEPTHS:
        peer.depth = depth
        peer.decode(prompts[:1], num_tokens)  # the first one warms up
        found[depth] = sum(peer.decode([prompt], num_tokens).seconds for prompt in prompts)
    peer.depth = min(found, key=found.__getitem__)


def compete(
    contestants: Sequence[Contestant],
    prompts: Sequence[Sequence[Prompt]],
    num_tokens: int,
    say: Callable[[str], None],
) -> dict[str, list[Answer]]:
    """``prompts`` are those of each round."""
    answers: dict[str, list[Answer]] = {one.name: [] for one in contestants}
    for number, batch in enumerate(prompts):
        first = number % len(contestants)
        for one in (*contestants[first:], *contestants[:first]):
            answers[one.name].append(one.decode(batch, num_tokens))
        told = ", ".join(f"{one.name} {answers[one.name][-1].speed:.1f}" for one in contestants)
        say(f"round {number}, {len(batch)} at a time, tokens/s: {told}")
    return answers


def rows(
    contestants: Sequence[Contestant],
    answers: Mapping[str, Sequence[Answer]],
    prompts: Sequence[Sequence[Prompt]],
    gap: Gap,
) -> list[Row]:
    """One for each contestant. ``gap(context, ours, other)`` is the target's, of two tokens after a context."""
    found = []
    for one in contestants:
        mine = answers[one.name]
        unequal = _differences(answers[PLAIN], mine, prompts, gap)
        count = sum(map(len, prompts))
        found.append(
            Row(
                name=one.name,
                speculates=one.speculates,
                depth=None if one.depth is None else str(one.depth),
                speed=spread([answer.speed for answer in mine]),
                ahead={name: ratios(answers[name], mine) for name in OURS},
                same=count - len(unequal),
                answers=count,
                differences=unequal,
            )
        )
    return found


def _differences(
    ours: Sequence[Answer], others: Sequence[Answer], prompts: Sequence[Sequence[Prompt]], gap: Gap
) -> list[Difference]:
    found = []
    for number, (mine, other) in enumerate(zip(ours, others, strict=True)):
        for index, (one, two) in enumerate(zip(mine.tokens, other.tokens, strict=True)):
            at = first_difference(one, two)
            if at is None:
                continue
            if at >= min(len(one), len(two)):
                early = float("inf") if len(two) < len(one) else -float("inf")
                found.append(Difference(number, index, at, -1, -1, early))
                continue
            context = [*prompts[number][index], *one[:at]]
            found.append(Difference(number, index, at, one[at], two[at], gap(context, one[at], two[at])))
    return found
