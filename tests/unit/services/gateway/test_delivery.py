"""Whatever happens to the events, a client gets the journal's tokens, each once and in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.delivery import BrokenChain, Delivery, Gap, terminal
from shared import codec, digest
from shared.messages import TokenEvent
from shared.replies import Attached, JournalEntry

PROMPT = [9, 9, 9]
START = digest.extend(digest.EMPTY, PROMPT)


def chain(groups: list[list[int]], finish: str = "length") -> tuple[list[TokenEvent], Attached]:
    """The events and the finished journal of an output committed in groups."""
    position, value = len(PROMPT), START
    events, entries = [], []
    for index, tokens in enumerate(groups):
        value = digest.extend(value, tokens)
        events.append(
            TokenEvent(
                request="r",
                start=position,
                tokens=np.array(tokens, np.int32),
                digest=value,
                finish=finish if index == len(groups) - 1 else None,
                text_length=-1,
                stats=None,
                error=None,
            )
        )
        position += len(tokens)
        entries.append(JournalEntry(position, np.array(tokens, "<u4").tobytes()))
    last = codec.encode(events[-1])
    return events, Attached("finished", position, value.hex(), 100.0, finish, last, tuple(entries))


def delivery() -> Delivery:
    return Delivery("r", len(PROMPT), START)


GROUPS = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=4), min_size=1, max_size=8)


@given(GROUPS, st.data())
def test_lost_repeated_and_reordered_events_give_the_journal(groups: list[list[int]], data: st.DataObject) -> None:
    events, journal = chain(groups)
    indices = data.draw(st.lists(st.integers(0, len(events) - 1), max_size=20))
    target, got = delivery(), []
    for index in indices:
        try:
            delta = target.receive(events[index], 100.0 + index)
        except Gap:
            held = data.draw(st.integers(index, len(events) - 1))  # the journal may be ahead of the event
            entries = journal.journal[: held + 1]
            now = Attached("running", entries[-1].end, events[held].digest.hex(), 100.0, journal=entries)
            delta = target.heal(journal if held == len(events) - 1 else now, 200.0)
        if delta is not None:
            got.append(delta)
    if target.end is None:
        last = target.heal(journal, 300.0)
        assert last is not None
        got.append(last)
    whole = [token for tokens in groups for token in tokens]
    assert [token for delta in got for token in delta.tokens] == whole == target.tokens
    assert [delta.end is not None for delta in got] == [False] * (len(got) - 1) + [True]
    assert target.digest.hex() == journal.digest
    assert target.receive(events[-1], 0.0) is None
    assert target.heal(journal, 0.0) is None


def test_times_are_those_of_the_commits() -> None:
    events, _ = chain([[1], [2, 3], [4]])
    target = delivery()
    for event, at in zip(events, (10.0, 30.0, 25.0), strict=True):  # a clock may step back
        target.receive(event, at)
    assert (target.first_ms, target.last_ms) == (10.0, 30.0)


def test_a_healed_first_token_keeps_its_commit_time() -> None:
    _, journal = chain([[1], [2]])
    target = delivery()
    target.heal(journal, 500.0)
    assert (target.first_ms, target.last_ms) == (100.0, 500.0)


@pytest.mark.parametrize("finish", ["cancelled", "error", "detached"])
def test_an_end_from_outside_may_come_at_any_position(finish: str) -> None:
    target = delivery()
    delta = target.receive(terminal("r", finish), 0.0)
    assert delta is not None
    assert delta.end is not None
    assert (delta.tokens, delta.end.finish) == ([], finish)


def test_tokens_of_another_chain_are_never_delivered() -> None:
    events, journal = chain([[1], [2]])
    others, other_journal = chain([[7], [8]])
    target = delivery()
    target.receive(events[0], 1.0)
    with pytest.raises(Gap):
        target.receive(others[1], 2.0)
    with pytest.raises(BrokenChain):
        target.heal(other_journal, 3.0)
    assert target.tokens == [1]
    assert target.heal(journal, 4.0) is not None


@pytest.mark.parametrize("kept", [0, 1])
def test_a_journal_with_a_hole_or_shorter_than_the_prefix_is_broken(kept: int) -> None:
    events, journal = chain([[1], [2], [3]])
    target = delivery()
    if kept:
        for event in events[:2]:
            target.receive(event, 1.0)
        short = Attached("running", len(PROMPT) + 1, events[0].digest.hex(), journal=journal.journal[:1])
    else:
        short = Attached("running", journal.position, journal.digest, journal=journal.journal[1:])
    with pytest.raises(BrokenChain):
        target.heal(short, 2.0)


def test_a_journal_that_events_have_overtaken_is_old_and_not_wrong() -> None:
    events, journal = chain([[1], [2], [3]])
    target = delivery()
    target.receive(events[0], 1.0)
    asked_at = target.position
    old = Attached("running", asked_at, events[0].digest.hex())
    target.receive(events[1], 2.0)
    assert target.heal(old, 3.0, asked_at) is None
    assert target.tokens == [1, 2]
    with pytest.raises(BrokenChain):
        target.heal(old, 3.0)
    assert target.heal(journal, 4.0, asked_at) is not None
    assert target.tokens == [1, 2, 3]
